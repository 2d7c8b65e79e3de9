"""Keeps control tokens that the template wrote apart from texts that merely spell one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from nbllama.chat.automaton import Automaton
from nbllama.chat.prompt import Segment, Span


class ControlTokens:
    """The spellings of a model's control tokens. Single characters and white space are left out: texts need them."""

    def __init__(self, spellings: Collection[str]) -> None:
        known = sorted({spelling for spelling in spellings if len(spelling) > 1 and spelling.strip()})
        self._automaton = Automaton(known)
        first = "".join(re.escape(char) for char in sorted({spelling[0] for spelling in known}))
        self._first = re.compile(f"[{first}]") if first else None

    def broken(self, text: str, breaker: str) -> str:
        """`text` with `breaker` behind the first character of all that spells, or at the end begins, one."""
        starts = sorted(self._automaton.starts(text))
        if not starts:
            return text
        ends = [start + 1 for start in starts]
        return breaker.join(text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True))

    def segments(self, text: str, spans: tuple[Span, ...], broken_at: set[int]) -> tuple[Segment, ...]:
        """Cuts `text` at the control tokens that lie wholly in the template's own spans and are not broken.

        `broken_at` holds the positions before which a breaker stood.
        """
        segments: list[Segment] = []
        done = 0
        for start, end in self._occurrences(text, broken_at):
            if start < done or not _is_template(spans, start, end):
                continue
            if start > done:
                segments.append(Segment(text[done:start], False))
            segments.append(Segment(text[start:end], True))
            done = end
        if done < len(text):
            segments.append(Segment(text[done:], False))
        return tuple(segments)

    def occurs_in(self, text: str) -> bool:
        """Whether any control token is spelled in `text`."""
        return next(self._occurrences(text, set()), None) is not None

    def _occurrences(self, text: str, broken_at: set[int]) -> Iterator[tuple[int, int]]:
        position = 0
        while self._first and (found := self._first.search(text, position)):
            start = found.start()
            length = self._automaton.longest_at(text, start)
            if length and start + 1 not in broken_at:
                yield start, start + length
                position = start + length
            else:
                position = start + 1


def _is_template(spans: tuple[Span, ...], start: int, end: int) -> bool:
    """Whether [start, end) touches nobody's text but the template's."""
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high) // 2
        if spans[middle].end <= start:
            low = middle + 1
        else:
            high = middle
    while low < len(spans) and spans[low].start < end:
        if spans[low].origin.kind != "template":
            return False
        low += 1
    return True
