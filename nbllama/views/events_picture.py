"""A picture of a stream: time from left to right, a line for the message and for each block, a mark for each event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbllama.views.palette import LINE, Look, look_of
from nbllama.views.picture import WIDTH, Picture, round_step, seconds

MOST_LANES = 12
MOST_MARKS = 500
_LEFT, _RIGHT, _LANE, _TOP = 170, 20, 26, 16
_DELTA = "content_block_delta"
_LOOKS = {"text": "answer: text", "thinking": "answer: thinking", "tool_use": "tools"}

Timed = Sequence[tuple[float | None, Any]]


def timeline(events: Timed) -> str:
    """The picture as HTML; empty where no times are recorded."""
    known = [(time, event) for time, event in events if time is not None and isinstance(event, Mapping)]
    if not known:
        return ""
    lanes = _lanes(known)
    names = list(lanes)[:MOST_LANES]
    drawing = _Drawing(min(known[0][0], 0.0), known[-1][0], len(names))
    for n, name in enumerate(names):
        drawing.lane(n, name, lanes[name])
    more = f"; {len(lanes) - len(names)} more blocks are not drawn" if len(lanes) > len(names) else ""
    return drawing.picture.html(f"Timeline of {len(known)} events in {len(names)} lines{more}")


def _lanes(events: Sequence[tuple[float, Any]]) -> dict[str, list[tuple[float, Mapping[str, Any]]]]:
    lanes: dict[str, list[tuple[float, Mapping[str, Any]]]] = {"message": []}
    names: dict[Any, str] = {}
    for time, event in events:
        index = event.get("index")
        if event.get("type") == "content_block_start":
            content = event.get("content_block")
            names[str(index)] = str(content.get("type")) if isinstance(content, Mapping) else "?"
        kind = str(event.get("type"))
        if "index" in event:
            name = f"block {index}: {names.get(str(index), '?')}"
        else:
            name = "ping" if kind == "ping" else "message"
        lanes.setdefault(name, []).append((time, event))
    return lanes


class _Drawing:
    def __init__(self, start: float, end: float, n_lanes: int) -> None:
        self._start, self._length = start, max(end - start, 1e-6)
        self._bottom = _TOP + n_lanes * _LANE
        self.picture = Picture(self._bottom + 26)
        self._axis()

    def lane(self, n: int, name: str, events: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
        top = _TOP + n * _LANE
        self.picture.words(_LEFT - 10, top + 15, name[:26], anchor="end")
        if name.startswith("block"):
            kind = name.partition(": ")[2]
            self._block(top, self._x(events[0][0]), self._x(events[-1][0]), look_of(_LOOKS.get(kind, kind)))
        step = max(1, -(-len(events) // MOST_MARKS))
        shown = [(self._x(time), str(event.get("type"))) for time, event in [*events[::step], *events[-1:]]]
        self.picture.ticks([x for x, kind in shown if kind == _DELTA], top + 6, top + _LANE - 8)
        for x, kind in shown:
            if kind != _DELTA:
                self._mark(top, x, kind)

    def _block(self, top: float, left: float, right: float, look: Look) -> None:
        self.picture.bar(left, top + 3, right - left, _LANE - 8, look)

    def _mark(self, top: float, x: float, kind: str) -> None:
        if kind == "error":
            self.picture.words(x, top + 16, "✗ error", anchor="end", bold=True)
        else:
            self.picture.dot(x, top + 12)

    def _axis(self) -> None:
        step, at = round_step(self._length), 0.0
        while at <= self._start + self._length:
            if at >= self._start:
                x = self._x(at)
                self.picture.line(x, _TOP - 6, x, self._bottom, "#d0d0d0")
                self.picture.words(x, self._bottom + 16, seconds(at) if at else "0", anchor="middle", size=11)
            at += step
        self.picture.line(_LEFT, self._bottom, WIDTH - _RIGHT, self._bottom, LINE)

    def _x(self, time: float) -> float:
        return _LEFT + (time - self._start) / self._length * (WIDTH - _LEFT - _RIGHT)
