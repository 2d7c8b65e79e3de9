"""`trace.fork(i, token)` and `trace.tree()`: an answer gone on with from one of its tokens, and what came of it.

The worker does the work (`answer/forking.py`). Which answers belong together is in their records; those of this kernel
are kept here, so that a tree outlives the worker's own memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbllama.errors import NbllamaError
from nbllama.notebook.answer_events import answer_events
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.errors import AskError, TraceError
from nbllama.notebook.inspectors.tree import TraceTree
from nbllama.notebook.interrupts import Interrupts
from nbllama.views.tokens import shown
from nbllama.views.tree import Tree
from nbllama.wire.answers import new_id

if TYPE_CHECKING:
    from nbllama.notebook.trace import Trace

MOST_KEPT = 200
"""Traces of which this kernel knows that they are forks, or were forked."""

_kept: OrderedDict[str, Trace] = OrderedDict()


def fork(
    trace: Trace,
    i: int,
    token: int | str | None = None,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    probabilities: int | None = None,
) -> Trace:
    """Goes on from the first `i` tokens of a trace's answer (negative: from its end) and from `token`.

    `token` is an id, or the text of one of the alternatives that were recorded there; without it the most probable one
    that was not taken. `max_tokens` may follow it, by default what the request had left. Everything else is as in the
    request, unless it is given here. The prompt and what is kept of the answer come out of the prefix cache. Blocks
    until the answer is there; an interrupt stops it. Raises TraceError, and AskError for what the server refuses."""
    if trace.from_file:
        raise TraceError(f"{trace.id} comes from a file: no server has it, so nothing can go on from it; ask again")
    record = trace.record
    place = i + len(record["output_ids"]) if i < 0 else i
    options = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    options |= {"min_p": min_p, "seed": seed, "probabilities": probabilities}
    wish = {"index": place, "token": token if isinstance(token, int) else _found(record, place, token)}
    forked = _ask(trace, wish | {name: value for name, value in options.items() if value is not None})
    _keep(trace)
    _keep(forked)
    return forked


def tree(trace: Trace) -> TraceTree:
    """A trace, what it was forked from, and all that this kernel has forked from any of these."""
    root = _root(trace)
    # Asking for a root may keep one more.
    family = {other.id: other for other in list(_kept.values()) if _root(other).id == root.id}
    members = {root.id: root, **family, trace.id: trace}
    return TraceTree(Tree([member.record for member in members.values()]))


def _ask(trace: Trace, wish: dict[str, Any]) -> Trace:
    from nbllama.notebook.trace import Trace

    endpoint, view, own_id = trace.endpoint, AnswerView(), new_id("req")
    seen: dict[str, str] = {}
    try:
        path = f"/nbllama/traces/{trace.id}/fork"
        # In a cell with `await` the stop button would else be seen when the answer has ended.
        with Interrupts(), answer_events(endpoint, wish, own_id, seen.update, path=path) as events:
            for event in events:
                view.add(event)
        if view.error is not None:
            raise view.error
    except NbllamaError as error:
        raise AskError(error) from error
    forked = Trace(seen.get("request-id", own_id), endpoint)
    # Fetched now: it outlives the worker then.
    _ = forked.record
    return forked


def _found(record: Mapping[str, Any], place: int, text: str | None) -> int:
    """The id of the alternative at a place that is `text`; for None the best that was not taken. Raises TraceError."""
    n = len(record["output_ids"])
    if place == n:
        raise TraceError(f"behind the answer's last token, at {n}, nothing was recorded: give the token as an id")
    if not 0 <= place < n:
        raise TraceError(f"the answer has {n} tokens: it can be forked at 0 to {n - 1}, not at {place}")
    told = record["probabilities"][place : place + 1]
    if not told:
        raise TraceError(
            f"no alternatives were recorded at token {place}: give the token as an id, or ask with probabilities "
            '(extra_body={"nbllama": {"probabilities": 5}}, or the setting NBLLAMA_PROBABILITIES)'
        )
    drawn = record["output_ids"][place]
    ids = list(dict.fromkeys([*(id for id, _ in told[0]["top"]), drawn]))
    pieces = {id: bytes.fromhex(record["pieces"].get(str(id), "")) for id in ids}
    fitting = [id for id in ids if (id != drawn if text is None else pieces[id] == text.encode(errors="replace"))]
    if fitting:
        return int(fitting[0])
    if text is None:
        raise TraceError(f"token {place} had no alternative: {shown(pieces[drawn])!r} was all that could stand there")
    known = ", ".join(repr(shown(piece)) for piece in pieces.values())
    raise TraceError(f"{text!r} is none of the alternatives that were recorded at token {place}: {known}")


def _keep(trace: Trace) -> None:
    _kept.setdefault(trace.id, trace)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)


def _root(trace: Trace) -> Trace:
    """The first one of its family, as far back as it is known."""
    from nbllama.notebook.trace import Trace

    while origin := (trace.record.get("forked_from") or {}).get("id"):
        earlier = _kept.get(origin)
        if earlier is None:
            if trace.from_file:
                return trace
            earlier = Trace(origin, trace.endpoint)
            try:
                _ = earlier.record
            except TraceError:
                return trace
            _keep(earlier)
        trace = earlier
    return trace
