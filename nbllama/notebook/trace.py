"""What happened in a request: `nbllama.last`, `nbllama.trace(…)`, `nbllama.traces()`.

The worker keeps the records; they are fetched when looked at. anthropic and pandas are imported then, not before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nbllama.errors import NbllamaError
from nbllama.notebook import forking, trace_file, trace_summary
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.errors import TraceError
from nbllama.notebook.inspectors.cache import CacheInspector
from nbllama.notebook.inspectors.calls import CallsInspector
from nbllama.notebook.inspectors.events import EventsInspector
from nbllama.notebook.inspectors.probabilities import ProbabilitiesInspector
from nbllama.notebook.inspectors.timing import TimingInspector
from nbllama.notebook.inspectors.tokens import TokensInspector
from nbllama.notebook.kernel_link import link
from nbllama.notebook.saving import write
from nbllama.views.cache import Cache
from nbllama.views.calls import Calls
from nbllama.views.comparison import closest, earlier_ids
from nbllama.views.events import Events
from nbllama.views.page import page
from nbllama.views.probabilities import Probabilities
from nbllama.views.reading import Record
from nbllama.views.timing import Timing
from nbllama.views.tokens import Tokens
from nbllama.wire.errors import ApiError, NotFound
from nbllama.wire.records import TRACES_OFF
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

if TYPE_CHECKING:
    from anthropic.types import Message, Usage

# A record is complete a moment after the last byte of its answer, or after its client has gone.
_TRIES = 40
_PAUSE = 0.05


class Trace:
    """One request: what was asked, the exact prompt, every event with its time. Shows itself as a short table.

    Everything but `id` fetches the record once and raises TraceError if it is not there (yet). Its methods are
    inspectors: each shows itself, has `.df` and `.widget()`."""

    def __init__(self, id: str, endpoint: Endpoint | None, record: dict[str, Any] | None = None) -> None:
        """`endpoint` is None of a trace that was loaded from a file."""
        self.id = id
        self._endpoint = endpoint
        self._record = record
        self._message: Message | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The server that keeps the record. Raises TraceError for a trace that was loaded from a file."""
        if self._endpoint is None:
            raise TraceError(f"{self.id} was loaded from a file: there is no server that knows it")
        return self._endpoint

    @property
    def from_file(self) -> bool:
        """Whether it was loaded from a file, so that no server can be asked about it."""
        return self._endpoint is None

    @property
    def record(self) -> dict[str, Any]:
        """The whole record as the worker keeps it; times in seconds since the request was accepted."""
        if self._record is None:
            self._record = fetch(self.endpoint, self.id)
        return self._record

    @property
    def request(self) -> dict[str, Any]:
        """The body that was sent."""
        request: dict[str, Any] = self.record["request"]
        return request

    @property
    def message(self) -> Message | None:
        """The answer as the SDK's Message, as far as it came: interrupted, its `stop_reason` is None.

        None if the request ended before its answer began."""
        if self._message is None:
            message = self.record["message"] or _partial(self.record["events"])
            self._message = as_message(message) if message is not None else None
        return self._message

    @property
    def text(self) -> str:
        """The text of the answer, as far as it came; without thinking and tool calls."""
        deltas = (event.get("delta", {}) for _, event in self.record["events"])
        return "".join(delta["text"] for delta in deltas if delta.get("type") == "text_delta")

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer; None if it had not begun."""
        return self.message.usage if self.message is not None else None

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of each phase that took place, and `tokens_per_second`."""
        timings: dict[str, float] = self.record["timings"]
        return timings

    def tokens(self) -> TokensInspector:
        """The exact prompt and the answer, token by token: who wrote each, and whether it was computed."""
        return TokensInspector(Tokens(self.record), self.id)

    def cache(self, other: Any = None) -> CacheInspector:
        """Why the prompt was computed again, compared with an `other` request: a trace, or what `trace` takes.

        Without one it is compared with what the record names, else with the one of the five requests before it that
        has most in common, as far as the server still keeps them."""
        before = self._earlier() if other is None else trace(other).record
        return CacheInspector(Cache(self.record, before), self.id)

    def calls(self, format: str | Path | Mapping[str, Any] | None = None) -> CallsInspector:
        """The answer's raw text beside what the parser made of it; with a `format`, what that one makes of it.

        It is another model's name, a file with a chat template, or a format's description (a dictionary or .json)."""
        if format is None:
            return CallsInspector(Calls(self.record), self.id)
        from nbllama.notebook.on_text import parsed
        from nbllama.views.replaying import as_asked

        asked = as_asked(self.record)
        if not asked["text"]:
            raise TraceError(f"{self.id} has no raw text of an answer that could be read again")
        return parsed(asked, None, format)

    def events(self) -> EventsInspector:
        """Every event with its time, and whether the stream keeps the rules."""
        return EventsInspector(Events(self.record), self.id)

    def probabilities(self) -> ProbabilitiesInspector:
        """How sure the model was of each token; kept when the request asked for it."""
        return ProbabilitiesInspector(Probabilities(self.record), self)

    def timing(self) -> TimingInspector:
        """Where the time went; `traces().timing()` has a row for each request."""
        return TimingInspector(Timing(self.record), self.id)

    def save(self, path: str | Path, *, masked: bool = True) -> Path:
        """Writes the trace as .json or .json.gz, for `nbllama.trace(path)`; keys and absolute paths are covered.

        With `masked=False` they are kept. Raises TraceError for another kind of name, or if it cannot be written."""
        return trace_file.save(self.record, path, masked=masked)

    def to_html(self, path: str | Path | None = None, *, masked: bool = True) -> str | Path:
        """All inspectors as one HTML page of at most 2 MB that needs no network; keys and absolute paths are covered.

        Written to `path`, whose path is returned then; else the HTML itself. Look through it before you send it."""
        html = page(self.record, before=self._earlier(), masked=masked)
        return html if path is None else write(path, html.encode(errors="replace"))

    def _earlier(self) -> Record | None:
        """The record to compare with; None where there is none, or nobody who still has it."""
        record, endpoint = self.record, self._endpoint
        if endpoint is None:
            return None
        named = record.get("reuse", {}).get("compared_with")
        try:
            if named:
                return fetch(endpoint, named, tries=1)
            summaries = connection.request_json(endpoint, "GET", "/nbllama/traces")["traces"]
            return closest(record, [fetch(endpoint, id, tries=1) for id in earlier_ids(record, summaries)])
        except NbllamaError:
            # Forgotten, or its worker has ended: what the record itself says is shown all the same.
            return None

    def fork(self, i: int, token: int | str | None = None, **options: Any) -> Trace:
        """The answer gone on with from its token `i` as `forking.fork` says; the new request's trace."""
        return forking.fork(self, i, token, **options)

    def tree(self) -> forking.TraceTree:
        """This answer and its forks: what they have in common once, each branch where it leaves the others."""
        return forking.tree(self)

    def __repr__(self) -> str:
        return f"Trace({self.id!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        try:
            rows = trace_summary.rows(self.record, self.text)
        except TraceError as error:
            # Merely to look at it, the last line of many a cell, is no reason to stop "Run all".
            return {"text/plain": str(error)}
        return {"text/html": trace_summary.html(rows), "text/plain": trace_summary.plain(rows)}


def trace(of: Any) -> Trace:
    """The trace of a request: its id (`req_…`), the id of its answer (`msg_…`), the answer itself, or a saved file.

    Raises TraceError if the server keeps none (it keeps the last ones, in memory), or if the file is no trace."""
    if isinstance(of, Trace):
        return of
    if isinstance(of, Path) or (isinstance(of, str) and trace_file.is_file_name(of)):
        record = trace_file.load(of)
        return Trace(record["id"], None, record)
    id = of if isinstance(of, str) else getattr(of, "id", None)
    if not isinstance(id, str):
        raise TypeError(f"a request id, a message id, a Message or a file is needed, not {type(of).__name__}")
    endpoint = traces_endpoint()
    record = fetch(endpoint, id)
    return Trace(record["id"], endpoint, record)


def remember(id: str, endpoint: Endpoint) -> Trace:
    """Notes the request that has just been answered."""
    global _last
    _last = Trace(id, endpoint)
    return _last


def last_trace() -> Trace | None:
    """`nbllama.last`: the last request of this kernel that was answered; None before the first."""
    return _last


def as_message(message: dict[str, Any]) -> Message:
    """A Message's JSON as the SDK's object."""
    from anthropic.types import Message

    return Message.model_validate(message)


def _partial(events: list[Any]) -> dict[str, Any] | None:
    view = AnswerView()
    for _, event in events:
        view.add_data(event)
    return view.message()


_last: Trace | None = None


def traces_endpoint() -> Endpoint:
    """The server that keeps this kernel's traces. Raises TraceError."""
    try:
        return link.endpoint()
    except NbllamaError as error:
        raise TraceError(f"no traces: {error}") from error


def fetch(endpoint: Endpoint, id: str, *, tries: int = _TRIES) -> dict[str, Any]:
    """A record; one that may still be written is waited for. Raises TraceError."""
    tries = tries if endpoint.is_worker else 1
    for n in range(tries):
        try:
            return connection.request_json(endpoint, "GET", f"/nbllama/traces/{quote(id, safe='')}")
        except NotFound as error:
            if TRACES_OFF in str(error):
                raise TraceError(f"no trace of {id}: {TRACES_OFF}") from error
            if n == tries - 1:
                raise TraceError(f"no trace of {id}: it is still running, too old to keep, or not yours") from error
        except ApiError as error:
            raise TraceError(f"no trace of {id}: {error}") from error
        except NbllamaError as error:
            raise TraceError(f"no trace of {id}: {error}; traces end with the worker that kept them") from error
        time.sleep(_PAUSE)
    raise TraceError(f"no trace of {id}")
