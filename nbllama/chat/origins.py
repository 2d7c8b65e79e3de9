"""Who wrote which part of a prompt.

Strategy: the conversation is rendered a second time with marks of private characters around every text that is not
the template's. If that rendering without its marks is the first one, the marks say exactly where each text went,
also where the template trims, repeats or reorders. Where it is not (a template that looks inside a text), the texts
are searched for in order. The marks stand inside the white space at a text's ends, so that trimming does not see them.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbllama.chat.errors import ChatError
from nbllama.chat.prompt import TEMPLATE, Origin, Span

# Plane 15 is for private use; icon fonts live there too, so free characters are looked for.
_PRIVATE = re.compile("[\U000f0000-\U000ffffd]")
_BASES = range(0xF0000, 0xFFFE0, 32)
_WIDENING_CHARS = 120

Found = tuple[int, int, Origin]


@dataclass(frozen=True, slots=True)
class PrivateCharacters:
    """Characters that occur nowhere in a request or its template."""

    breaker: str
    open: str
    close: str
    digits: str


def private_characters(texts: Iterable[str]) -> PrivateCharacters:
    """Raises ChatError if the texts use all blocks of them, which only an attack does."""
    used = {ord(char) & ~31 for text in texts if not text.isascii() for char in _PRIVATE.findall(text)}
    base = next((base for base in _BASES if base not in used), None)
    if base is None:
        raise ChatError("the request uses every private character there is")
    chars = [chr(base + i) for i in range(19)]
    return PrivateCharacters(chars[0], chars[1], chars[2], "".join(chars[3:]))


class Marks:
    """Puts marks around texts and reads them off a rendering."""

    def __init__(self, private: PrivateCharacters) -> None:
        self._private = private
        self._texts: list[tuple[str, Origin]] = []
        self._mark = re.compile(f"{private.open}([{private.digits}]+){private.close}|{private.close}")

    def around(self, text: str, origin: Origin) -> str:
        """`text` with marks inside its outer white space; unchanged where there is nothing else."""
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        number = "".join(self._private.digits[int(digit, 16)] for digit in f"{len(self._texts):x}")
        self._texts.append((text, origin))
        opener = f"{self._private.open}{number}{self._private.close}"
        return f"{text[:start]}{opener}{core}{self._private.close}{text[start + len(core) :]}"

    def read(self, marked: str) -> tuple[str, list[Found]] | None:
        """(the rendering without marks, where the texts are), or None if a text lost one of its ends."""
        parts: list[str] = []
        found: list[Found] = []
        length, done = 0, 0
        opened: tuple[int, int] | None = None
        for mark in self._mark.finditer(marked):
            parts.append(marked[done : mark.start()])
            length += mark.start() - done
            done = mark.end()
            if mark.group(1) is not None:
                if opened is not None:
                    return None
                opened = (self._number(mark.group(1)), length)
            elif opened is not None:
                found.append((opened[1], length, self._texts[opened[0]][1]))
                opened = None
        parts.append(marked[done:])
        return None if opened is not None else ("".join(parts), found)

    def _number(self, digits: str) -> int:
        return int("".join(f"{self._private.digits.index(digit):x}" for digit in digits), 16)


def search(text: str, texts: Iterable[tuple[str, Origin]]) -> list[Found]:
    """Where the texts are, taken in order; those that are not found (escaped, shortened) are left to the template.

    Tools have an order of their own: templates put them before or after the system prompt.
    """
    found: list[Found] = []
    reached = {True: 0, False: 0}
    for content, origin in texts:
        core, is_tool = content.strip(), origin.kind == "tools"
        start = text.find(core, reached[is_tool]) if core else -1
        if start >= 0:
            found.append((start, start + len(core), origin))
            reached[is_tool] = start + len(core)
    return found


def cover(text: str, found: list[Found], has_control: Callable[[str], bool]) -> tuple[Span, ...]:
    """Spans over all of `text`: the found ones, widened and joined, the rest the template's."""
    spans: list[Span] = []
    end = 0
    joined = _joined(text, _widened(text, _apart(found)), has_control)
    for start, stop, origin in joined:
        if start > end:
            spans.append(Span(end, start, TEMPLATE))
        spans.append(Span(start, stop, origin))
        end = stop
    if end < len(text):
        spans.append(Span(end, len(text), TEMPLATE))
    return tuple(spans)


def _apart(found: list[Found]) -> list[Found]:
    """In order, without overlaps or empty ones."""
    kept: list[Found] = []
    for start, stop, origin in sorted(found, key=lambda one: one[:2]):
        start = max(start, kept[-1][1]) if kept else start
        if stop > start:
            kept.append((start, stop, origin))
    return kept


def _widened(text: str, found: list[Found]) -> list[Found]:
    """A name or value in a call or tool takes the JSON object around it along."""
    kept: list[Found] = []
    starts = [start for start, _, _ in found]
    for start, stop, origin in found:
        floor = kept[-1][1] if kept else 0
        if stop <= floor:
            continue
        if origin.kind in ("tools", "assistant", "prefill") and text[start - 1 : start] == '"':
            low, high = _json_around(text, max(start, floor), stop, floor)
            ours = all(one[2] == origin for one in found[bisect_right(starts, low) : bisect_right(starts, high - 1)])
            start, stop = (low, high) if ours else (max(start, floor), stop)
        kept.append((max(start, floor), stop, origin))
    return kept


def _json_around(text: str, start: int, stop: int, floor: int) -> tuple[int, int]:
    """The outermost JSON object that begins shortly before `start` and holds [start, stop), else just that range."""
    brace = text.find("{", max(floor, start - _WIDENING_CHARS), start)
    while brace >= 0:
        try:
            _, end = json.JSONDecoder().raw_decode(text, brace)
            if end >= stop:
                return brace, end
        except (ValueError, RecursionError):
            pass
        brace = text.find("{", brace + 1, start)
    return start, stop


def _joined(text: str, found: list[Found], has_control: Callable[[str], bool]) -> list[Found]:
    """Neighbours of one origin become one, with what stands between them unless that holds a control token."""
    joined: list[Found] = []
    for start, stop, origin in found:
        if joined and joined[-1][2] == origin and not has_control(text[joined[-1][1] : start]):
            joined[-1] = (joined[-1][0], stop, origin)
        else:
            joined.append((start, stop, origin))
    return joined
