"""Markers in a stream of text: where one stands, and where one may still come to stand.

A marker is text in which white space is elastic and `{id}`, `{any}`, `{name}` stand for what varies. All of it is
bounded, so that a match looks at a bounded number of characters however the text comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MAX_SPACE = 64
MAX_SLOT = 64
_SPACE = " \t\r\n"
_SLOTS = frozenset(("{id}", "{any}", "{name}"))
_PARTS = re.compile(r"(\{(?:id|any|name)\}|\s+)")
# Models write line breaks between two tags or leave them out, whatever their template does.
_BETWEEN_TAGS = re.compile(r"(?<=>)(?=<)|(?<=\])(?=\[)")


@dataclass(frozen=True, slots=True)
class Match:
    """A marker that ends before `end`, and what filled its slots."""

    end: int
    slots: Mapping[str, str]


Verdict = Match | Literal["maybe", "no"]


class Marker:
    """`source` without the space at its ends, or to the letter. Falsy where nothing is left."""

    def __init__(self, source: str, *, exact: bool = False) -> None:
        self._parts: list[str] = [source] if exact and source else []
        for part in [] if exact else _PARTS.split(source.strip()):
            if part.isspace():
                self._parts.append(" ")
            elif part in _SLOTS:
                self._parts.append(part)
            elif part:
                self._add_literal(part)
        self.length = len(source)

    def _add_literal(self, text: str) -> None:
        for index, piece in enumerate(_BETWEEN_TAGS.split(text)):
            self._parts += [" ", piece] if index else [piece]

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def first(self) -> str:
        """Its first character; empty if that varies."""
        return "" if not self._parts or self._parts[0] in _SLOTS else self._parts[0][0]

    @property
    def tags(self) -> tuple[Marker, ...]:
        """The marker cut at the space inside it: `</a>` and `</b>` for `</a>⏎</b>`."""
        pieces: list[list[str]] = [[]]
        for part in self._parts:
            if part == " ":
                pieces.append([])
            else:
                pieces[-1].append(part)
        return tuple(Marker("".join(piece)) for piece in pieces if piece)

    def at(self, text: str, start: int) -> Verdict:
        """Whether it stands at `start`, does not, or may if more text comes."""
        position = start
        slots: dict[str, str] = {}
        for index, part in enumerate(self._parts):
            if part == " ":
                limit = min(len(text), position + MAX_SPACE)
                while position < limit and text[position] in _SPACE:
                    position += 1
            elif part in _SLOTS:
                end = self._slot_end(text, position, index)
                if not isinstance(end, int):
                    return end
                slots[part[1:-1]] = text[position:end]
                position = end
            elif text.startswith(part, position):
                position += len(part)
            else:
                left = text[position : position + len(part)]
                return "maybe" if len(left) < len(part) and part.startswith(left) else "no"
        return Match(position, slots)

    def _slot_end(self, text: str, position: int, index: int) -> int | Literal["maybe", "no"]:
        """Where the text after a slot begins: its first occurrence on this line."""
        following = next((part for part in self._parts[index + 1 :] if part != " "), "")
        window = text[position : position + MAX_SLOT + len(following)]
        line, _, rest = window.partition("\n")
        if not following:
            return position
        found = line.find(following)
        if found >= 0:
            return position + found
        return "no" if rest or len(line) < len(window) or len(window) == MAX_SLOT + len(following) else "maybe"


@dataclass(frozen=True, slots=True)
class Hit:
    """The first place where a marker stands (`match`) or may come to stand (no `match`)."""

    start: int
    name: str = ""
    match: Match | None = None


class Markers:
    """Several named markers. Of two at one place the longer wins."""

    def __init__(self, markers: Mapping[str, Marker]) -> None:
        known = [(name, marker) for name, marker in markers.items() if marker]
        self._markers = sorted(known, key=lambda one: -one[1].length)
        firsts = "".join(sorted({re.escape(marker.first) for _, marker in self._markers if marker.first}))
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def __bool__(self) -> bool:
        return bool(self._markers)

    def at(self, text: str, start: int, *, ended: bool) -> Hit | None:
        """The marker at `start`, or that one may be there; None if there is none."""
        for name, marker in self._markers:
            verdict = marker.at(text, start)
            if isinstance(verdict, Match):
                return Hit(start, name, verdict)
            if verdict == "maybe" and not ended:
                return Hit(start)
        return None

    def search(self, text: str, start: int, *, ended: bool) -> Hit | None:
        """The first place at or after `start`."""
        found = self._first.search(text, start) if self._first else None
        while found and self._first:
            hit = self.at(text, found.start(), ended=ended)
            if hit is not None:
                return hit
            found = self._first.search(text, found.start() + 1)
        return None
