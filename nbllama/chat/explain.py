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

    def note(self, state: str, decision: str) -> None:
        """What was consumed since the last note."""
        pieces = self._output.pieces
        self._n_pieces = min(self._n_pieces, len(pieces))
        step = Step(self._start, self._source.offset, state, decision, tuple(pieces[self._n_pieces :]))
        self._start, self._n_pieces = self._source.offset, len(pieces)
        self._tell(step)

    def back(self) -> None:
        """The text was taken back: the next note begins where it is read again."""
        self._start = self._source.offset
