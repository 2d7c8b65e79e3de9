"""Finds any of several texts in a stream, one character at a time, in linear time (Aho and Corasick, 1975)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator


class Automaton:
    """A state is an int, 0 the start. Empty texts are ignored.

    `depth[state]` counts the last characters that may still become one of the texts; `match[state]` is the longest
    text that ends exactly here, or None.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail: list[int] = [0]
        self.depth: list[int] = [0]
        self.match: list[str | None] = [None]
        for text in texts:
            self._add(text)
        self._link()
        first = "".join(re.escape(char) for char in self._next[0])
        self._first = re.compile(f"[{first}]") if first else None

    def _add(self, text: str) -> None:
        state = 0
        for char in text:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.match.append(None)
            state = self._next[state][char]
        if state:
            self.match[state] = text

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], char)
                self.match[child] = self.match[child] or self.match[self._fail[child]]
                queue.append(child)

    def step(self, state: int, char: str) -> int:
        """The state after one more character."""
        while True:
            following = self._next[state].get(char)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self._fail[state]

    def run(self, text: str, start: int, state: int) -> tuple[int, int]:
        """Goes on from `start` to the end of `text` or behind the first match: (position, state)."""
        position = start
        while position < len(text):
            if state == 0:
                found = self._first.search(text, position) if self._first else None
                if found is None:
                    return len(text), 0
                position = found.start()
            state = self.step(state, text[position])
            position += 1
            if self.match[state] is not None:
                break
        return position, state

    def starts(self, text: str) -> set[int]:
        """Where any of the texts begins in `text`, also inside another, and where one is begun at its very end."""
        found: set[int] = set()
        position, state = 0, 0
        while position < len(text):
            position, state = self.run(text, position, state)
            if self.match[state] is not None:
                found.update(position - length for length in self._lengths(state))
        while state:
            found.add(len(text) - self.depth[state])
            state = self._fail[state]
        return found

    def longest_at(self, text: str, start: int) -> int:
        """The length of the longest of the texts that stands at `start`, 0 if none does."""
        state, longest = 0, 0
        for position in range(start, len(text)):
            following = self._next[state].get(text[position])
            if following is None:
                break
            state = following
            if len(self.match[state] or "") == self.depth[state]:
                longest = self.depth[state]
        return longest

    def _lengths(self, state: int) -> Iterator[int]:
        """The lengths of all texts that end in this state."""
        while state:
            if self.depth[state] == len(self.match[state] or ""):
                yield self.depth[state]
            state = self._fail[state]


class MarkerSearch:
    """Looks for markers in a stream; holds back only what may still become one."""

    def __init__(self, markers: Iterable[str]) -> None:
        self._automaton = Automaton(markers)
        self._state = 0
        self._held = ""

    @property
    def held(self) -> str:
        """What may still become a marker."""
        return self._held

    def feed(self, text: str, start: int = 0) -> tuple[str, int, str | None]:
        """(text that is certain to be before any marker, position in `text` reached, the marker found or None)."""
        end, state = self._automaton.run(text, start, self._state)
        marker = self._automaton.match[state]
        keep = self._automaton.depth[state] if marker is None else len(marker)
        # When the whole part is held, only the held text grows: it is never longer than a marker.
        seen = self._held + text[start:end]
        plain, self._held = seen[: len(seen) - keep], seen[len(seen) - keep :]
        self._state = state
        if marker is not None:
            self._held, self._state = "", 0
        return plain, end, marker

    def flush(self) -> str:
        """What was held back; the search starts anew."""
        held, self._held, self._state = self._held, "", 0
        return held
