"""Why a parser said what it said: each decision with the text that it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nbllama.chat.output import Output
from nbllama.chat.pieces import Piece
from nbllama.chat.source import Source


@dataclass(frozen=True, slots=True)
class Step:
    """Of the characters [start, end) of tail and answer: in which state what was decided, and what came of it."""

    start: int
    end: int
    state: str
    decision: str
    pieces: tuple[Piece, ...]


class Log:
    """Tells each decision once. A parser without a log does nothing of this."""

    def __init__(self, tell: Callable[[Step], None], source: Source, output: Output) -> None:
        self._tell = tell
        self._source = source
        self._output = output
        self._start = 0
        self._n_pieces = 0
        self._taken: list[Piece] = []

    def note(self, state: str, decision: str) -> None:
        """What was consumed since the last note."""
        new = (*self._taken, *self._output.pieces[self._n_pieces :])
        step = Step(self._start, self._source.offset, state, decision, new)
        self._start, self._n_pieces, self._taken = self._source.offset, len(self._output.pieces), []
        self._tell(step)

    def end(self) -> None:
        """The answer is over; what is still said is a decision, too."""
        if self._start < self._source.offset or self._taken or self._n_pieces < len(self._output.pieces):
            self.note("end", "end of the answer")

    def before_take(self) -> None:
        """The pieces so far are handed out: those of a decision that is still to come are kept for it."""
        self._taken += self._output.pieces[self._n_pieces :]
        self._n_pieces = 0

    def forget(self) -> None:
        """What came of the prompt's own text is not news."""
        self._taken, self._n_pieces = [], 0

    def back(self) -> None:
        """The text was taken back: the next note begins where it is read again."""
        self._start = self._source.offset
