"""The text of an answer as it comes, for readers that are generators.

A reader consumes what it is sure of and yields where it must see more before it can decide. So what it decides cannot
depend on how the text was cut: a cut is only a place where it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from nbllama.chat.json_scanner import JsonScanner
from nbllama.chat.markers import Hit, Marker, Markers, Match

T = TypeVar("T")
Reading = Generator[None, None, T]
SPACE = " \t\r\n"


class Source:
    """`text[at:]` is not consumed yet, `offset` counts what is. After `ended` nothing comes any more."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.offset = 0
        self.ended = False
        # What is consumed since `begin`: parts of texts that are gone, then `text[_mark:at]`.
        self._journal: list[str] | None = None
        self._mark = 0

    def feed(self, text: str) -> None:
        if self._journal is not None:
            self._journal.append(self.text[self._mark : self.at])
            self._mark = 0
        self.text, self.at = self.text[self.at :] + text, 0

    @property
    def empty(self) -> bool:
        return self.at >= len(self.text)

    @property
    def n_waiting(self) -> int:
        """Characters that were fed and are not decided about, those of an open attempt among them."""
        tried = 0 if self._journal is None else self.at - self._mark + sum(map(len, self._journal))
        return len(self.text) - self.at + tried

    def take(self, end: int) -> str:
        """Consumes up to the position `end` of `text`."""
        taken = self.text[self.at : end]
        self.at += len(taken)
        self.offset += len(taken)
        return taken

    def begin(self) -> None:
        """From here on what is consumed can be taken back."""
        self._journal, self._mark = [], self.at

    def commit(self) -> None:
        self._journal = None

    def rollback(self) -> None:
        """Back to `begin`. The text is only copied where part of it is gone already."""
        earlier = "".join(self._journal or ())
        self.offset -= self.at - self._mark + len(earlier)
        self.at = self._mark
        if earlier:
            self.text, self.at = earlier + self.text[self._mark :], 0
        self._journal = None

    def skip_space(self) -> Reading[None]:
        """Consumes white space; waits for what follows it."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in SPACE:
                end += 1
            self.take(end)
            if not self.empty or self.ended:
                return
            yield

    def peek(self) -> Reading[str]:
        """The next character, not consumed; empty at the end."""
        while self.empty and not self.ended:
            yield
        return self.text[self.at : self.at + 1]

    def take_marker(self, marker: Marker) -> Reading[Match | None]:
        """Consumes `marker` if it stands here."""
        if not marker:
            return None
        while True:
            verdict = marker.at(self.text, self.at)
            if isinstance(verdict, Match):
                self.take(verdict.end)
                return verdict
            if verdict == "no" or self.ended:
                return None
            yield

    def find_at(self, markers: Markers) -> Reading[Hit | None]:
        """The marker that stands here, not consumed."""
        while True:
            hit = markers.at(self.text, self.at, ended=self.ended)
            if hit is None or hit.match:
                return hit
            yield

    def until(self, markers: Markers, say: Callable[[str], None]) -> Reading[Hit | None]:
        """Says what comes before the first of `markers`, which is not consumed. None: there was none."""
        while True:
            hit = markers.search(self.text, self.at, ended=self.ended)
            before = self.take(hit.start if hit else len(self.text))
            if before:
                say(before)
            if hit and hit.match:
                return hit
            if self.ended:
                return None
            yield

    def short_until(self, markers: Markers, fits: Callable[[str], bool]) -> Reading[tuple[str, Hit] | None]:
        """A short text up to one of `markers`, none of it consumed, as long as what is seen of it `fits`."""
        while True:
            hit = markers.search(self.text, self.at, ended=self.ended)
            seen = self.text[self.at : hit.start if hit else len(self.text)]
            if not fits(seen):
                return None
            if hit and hit.match:
                return seen, hit
            if self.ended:
                return None
            yield

    def json(self, say: Callable[[str], None]) -> Reading[bool]:
        """Says one JSON value. False if it is none, at what is wrong with it."""
        scanner = JsonScanner()
        while True:
            end, part = scanner.feed(self.text, self.at)
            self.take(end)
            if part:
                say(part)
            if scanner.done or scanner.failed:
                return scanner.done
            if self.ended:
                return False
            yield
