"""Which events came of which of the parser's steps. A record keeps both in order; who made whom is worked out here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

_STARTS = {"text": "TextDelta", "thinking": "ThinkStart", "tool_use": "ToolStart"}
_DELTAS = {
    "text_delta": "TextDelta",
    "thinking_delta": "ThinkDelta",
    "signature_delta": "ThinkStop",
    "input_json_delta": "ToolArgsDelta",
}
_STOPS = {"text": "TextDelta", "thinking": "ThinkStop", "tool_use": "ToolStop"}


def events_of_steps(raw: str, steps: Sequence[Mapping[str, Any]], events: Sequence[Any]) -> list[list[int]]:
    """For each step the numbers of its events. `raw` is the answer's text, into which the steps' places point.

    An event belongs to the next step that made a piece of its kind; of several such neighbours to the one in which its
    text stands."""
    return _Matching(raw, steps).of(events)


class _Matching:
    def __init__(self, raw: str, steps: Sequence[Mapping[str, Any]]) -> None:
        self._raw = raw
        self._steps = steps
        self._made = [(n, str(piece)) for n, step in enumerate(steps) for piece in _list(step.get("pieces"))]
        self._places: dict[str, list[int]] = {}
        for place, (_, piece) in enumerate(self._made):
            self._places.setdefault(piece, []).append(place)
        self._at = 0
        self._read = 0
        self._block = ""

    def of(self, events: Sequence[Any]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self._steps]
        for number, event in enumerate(events):
            step = self._step_of(event) if isinstance(event, Mapping) else None
            if step is not None:
                found[step].append(number)
        return found

    def _step_of(self, event: Mapping[str, Any]) -> int | None:
        kind, content, delta = event.get("type"), event.get("content_block"), event.get("delta")
        if kind == "content_block_start" and isinstance(content, Mapping):
            self._block = str(content.get("type"))
            return self._advance(_STARTS.get(self._block), None)
        if kind == "content_block_delta" and isinstance(delta, Mapping):
            text = next((delta[name] for name in ("text", "thinking", "partial_json") if name in delta), None)
            return self._advance(_DELTAS.get(str(delta.get("type"))), text if isinstance(text, str) else None)
        if kind == "content_block_stop":
            return self._advance(_STOPS.get(self._block), None)
        return None

    def _advance(self, piece: str | None, text: str | None) -> int | None:
        """Goes to the next place where such a piece was made, and stays where there is none."""
        if piece is None:
            return None
        places = self._places.get(piece, [])
        following = bisect_left(places, self._at)
        if following == len(places):
            return self._made[self._at][0] if self._made else None
        self._at = places[following]
        place = self._raw.find(text, self._read) if text else -1
        if place >= 0 and text:
            self._read = place + len(text)
            while self._is_behind(place) and self._next_is(piece):
                self._at += 1
        return self._made[self._at][0]

    def _is_behind(self, place: int) -> bool:
        end = self._steps[self._made[self._at][0]].get("end")
        return isinstance(end, int) and place >= end

    def _next_is(self, piece: str | None) -> bool:
        return self._at + 1 < len(self._made) and self._made[self._at + 1][1] == piece


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
