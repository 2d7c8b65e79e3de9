"""The stream as it was: each event with its time, a picture of when what came, and what breaks the rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from nbllama.views import markup
from nbllama.views.events_picture import timeline
from nbllama.views.reading import Reading, Record, as_timed
from nbllama.views.stream_rules import Finding, judge
from nbllama.views.view import Row, View, missing, shorten
from nbllama.wire.sse import Decoder

MOST_TOLD = 50
"""Findings that are told one by one."""
_TEXTS = ("text", "thinking", "partial_json", "signature")


class Events(View):
    """Of a record, or with `Events.of` of any endpoint's events."""

    name = "events"
    title = "Events"
    columns = ("n", "time", "gap", "event", "index", "kind", "text", "payload")

    def __init__(self, record: Record) -> None:
        self._events = Reading(record).events

    @classmethod
    def of(cls, events: Iterable[Any]) -> Events:
        """Of `[seconds, event]`, or of events alone, whoever sent them."""
        return cls({"events": [list(as_timed(event)) for event in events]})

    @classmethod
    def of_sse(cls, data: bytes) -> Events:
        """Of the bytes of a stream, as curl saves them; without times."""
        return cls.of(_read(event.name, event.data) for event in Decoder().feed(data))

    @property
    def timed(self) -> list[tuple[float | None, Any]]:
        """(seconds, event) as they came, also where they are no events."""
        return self._events

    @cached_property
    def findings(self) -> list[Finding]:
        """What breaks the stream's rules, and what is odd, in the order of the events."""
        return judge([seconds, event] for seconds, event in self._events)

    def rows(self) -> list[Row]:
        before = [None, *(seconds for seconds, _ in self._events)]
        return [
            _row(n, seconds, last, event)
            for n, ((seconds, event), last) in enumerate(zip(self._events, before, strict=False))
        ]

    def summary(self) -> list[str]:
        if not self._events:
            return [missing("events")]
        times = [seconds for seconds, _ in self._events if seconds is not None]
        length = f" in {times[-1] - times[0]:.3f} s" if len(times) > 1 else ""
        lines = [f"{len(self._events):,} events{length}."]
        if len(times) > 2:
            gap, n = max((later - earlier, n) for n, (earlier, later) in enumerate(pairwise(times), 1))
            lines.append(f"The longest gap is {gap:.3f} s, before event {n}.")
        if not times:
            lines.append(missing("the events' times") + ".")
        told = [f"{'Fault' if one.fault else 'Note'}: {one.sentence}" for one in self._told]
        more = len(self.findings) - len(told)
        return [*lines, *told, *([f"… {more:,} more findings left out …"] if more else []), self.verdict]

    @property
    def verdict(self) -> str:
        n_faults = sum(one.fault for one in self.findings)
        if not n_faults:
            return "The stream keeps every rule."
        return f"The stream breaks the rules {n_faults} time{'s' if n_faults > 1 else ''}."

    def html(self) -> str:
        if not self._events:
            return markup.static(markup.heading(self.title) + markup.sentences(self.summary()))
        lines = [line for line in self.summary()[:-1] if not line.startswith(("Fault:", "Note:"))]
        parts = [markup.heading(self.title), markup.sentences(lines), timeline(self._events)]
        parts += [markup.notice(one.sentence) if one.fault else markup.sentences([one.sentence]) for one in self._told]
        parts.append(markup.notice(self.verdict, good=not any(one.fault for one in self.findings)))
        rows = [row | {"content": _content(row)} for row in self.rows()]
        said = "time: seconds since the request was accepted; gap: since the event before; index: of the block"
        return markup.static("".join([*parts, markup.table(_SHORT, rows), markup.sentences([said])]))

    @property
    def _told(self) -> list[Finding]:
        return self.findings[:MOST_TOLD]


_SHORT = ("n", "time", "gap", "event", "index", "kind", "content")
_PAYLOAD_CHARS = 120


def _content(row: Row) -> str:
    """What the event brings: its text, quoted so that white space is seen, else the start of its payload."""
    return repr(row["text"]) if row["text"] is not None else shorten(row["payload"], _PAYLOAD_CHARS)


def _row(n: int, seconds: float | None, before: float | None, event: Any) -> Row:
    data = event if isinstance(event, Mapping) else {}
    delta, block = _mapping(data, "delta"), _mapping(data, "content_block")
    kind = delta.get("type") or block.get("type") or delta.get("stop_reason") or _mapping(data, "error").get("type")
    text = next((delta[name] for name in _TEXTS if isinstance(delta.get(name), str)), None)
    index = data.get("index")
    return {
        "n": n,
        "time": seconds,
        "gap": None if seconds is None or before is None else round(seconds - before, 6),
        "event": str(data.get("type", "?")),
        "index": index if type(index) is int else None,
        "kind": None if kind is None else str(kind),
        "text": text,
        "payload": json.dumps(event, ensure_ascii=False, default=str),
    }


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, Mapping) else {}


def _read(name: str, data: str) -> Any:
    """The event's JSON; where its name says something else, or it is no JSON, that is for the validator to see."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if isinstance(event, dict) and event.get("type") not in (name, None):
        return event | {"type": f"{event['type']} (named {name})"}
    return event
