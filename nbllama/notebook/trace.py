"""What happened in a request: `nbllama.last`, `nbllama.trace(…)`, `nbllama.traces()`.

The worker keeps the records; they are fetched when looked at. anthropic and pandas are imported then, not before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nbllama.errors import NbllamaError
from nbllama.notebook import forking, trace_summary
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.errors import TraceError
from nbllama.notebook.kernel_link import link
from nbllama.wire.errors import ApiError, NotFound
from nbllama.wire.records import TRACES_OFF
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

if TYPE_CHECKING:
    import pandas as pd
    from anthropic.types import Message, Usage

# A record is complete a moment after the last byte of its answer, or after its client has gone.
_TRIES = 40
_PAUSE = 0.05


class Trace:
    """One request: what was asked, the exact prompt, every event with its time. Shows itself as a short table.

    Everything but `id` fetches the record once and raises TraceError if it is not there (yet)."""

    def __init__(self, id: str, endpoint: Endpoint, record: dict[str, Any] | None = None) -> None:
        self.id = id
        self.endpoint = endpoint
        self._record = record
        self._message: Message | None = None

    @property
    def record(self) -> dict[str, Any]:
        """The whole record as the worker keeps it; times in seconds since the request was accepted."""
        if self._record is None:
            self._record = _fetch(self.endpoint, self.id)
        return self._record

    @property
    def request(self) -> dict[str, Any]:
        """The body that was sent."""
        request: dict[str, Any] = self.record["request"]
        return request

    @property
    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Every event with its time in seconds since the request was accepted."""
        return [(seconds, event) for seconds, event in self.record["events"]]

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

    @property
    def df(self) -> pd.DataFrame:
        """The events as a table: time_s, event, block, kind, text."""
        from nbllama.notebook.table import Table

        rows = [trace_summary.event_row(seconds, event) for seconds, event in self.record["events"]]
        frame = Table(rows, columns=["time_s", "event", "block", "kind", "text"])
        return frame.astype({"time_s": "float64", "block": "Int64"})

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
    """The trace of a request: its id (`req_…`), the id of its answer (`msg_…`), or the answer itself.

    Raises TraceError if the server keeps none (it keeps the last ones, in memory)."""
    if isinstance(of, Trace):
        return of
    id = of if isinstance(of, str) else getattr(of, "id", None)
    if not isinstance(id, str):
        raise TypeError(f"a request id, a message id or a Message is needed, not {type(of).__name__}")
    endpoint = _endpoint()
    record = _fetch(endpoint, id)
    return Trace(record["id"], endpoint, record)


def traces() -> pd.DataFrame:
    """Your last requests, newest first, one row each. Raises TraceError if the server cannot be asked."""
    import pandas as pd

    from nbllama.notebook.table import Table

    try:
        answer = connection.request_json(_endpoint(), "GET", "/nbllama/traces")
    except NbllamaError as error:
        raise TraceError(f"no traces: {error}") from error
    frame = Table(answer["traces"], columns=trace_summary.COLUMNS)
    frame["created"] = pd.to_datetime(frame["created"].astype("float64"), unit="s", utc=True)
    numbers = {name: "Int64" for name in ("prompt_tokens", "cached_tokens", "output_tokens")}
    return frame.astype({**numbers, "total_s": "float64", "tokens_per_second": "float64"})


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


def _endpoint() -> Endpoint:
    try:
        return link.endpoint()
    except NbllamaError as error:
        raise TraceError(f"no traces: {error}") from error


def _fetch(endpoint: Endpoint, id: str) -> dict[str, Any]:
    tries = _TRIES if endpoint.is_worker else 1
    for n in range(tries):
        try:
            return connection.request_json(endpoint, "GET", f"/nbllama/traces/{id}")
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
