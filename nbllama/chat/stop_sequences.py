"""Stop sequences twice: over text, for what may be shown, and over token ids, to end the sequence at once.

The sequence that is complete first wins; of two that end at the same character, the longer. That is the only rule
that does not depend on how the text is cut into tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from nbllama.chat.automaton import Automaton, MarkerSearch


class StopMatcher:
    """Passes text on until a stop sequence is complete. `matched` is that sequence, or None."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._search = MarkerSearch(stops)
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """What may be shown now; nothing once a sequence has matched."""
        if self.matched is not None:
            return ""
        shown, _, self.matched = self._search.feed(text)
        return shown

    def flush(self) -> str:
        """What was held back because it could have become a stop sequence."""
        return "" if self.matched is not None else self._search.flush()


class StopSequenceGuide:
    """Sets `stop` as soon as the bytes of the accepted tokens complete a stop sequence. Masks and forces nothing."""

    def __init__(self, stops: Sequence[str], piece: Callable[[int], bytes]) -> None:
        self._automaton = Automaton(_bytes_as_text(stop.encode("utf-8", "surrogatepass")) for stop in stops)
        self._piece = piece
        # One state per accepted token, so that taking tokens back is a cut. -1: stopped.
        self._states = [0]

    @property
    def stop(self) -> str | None:
        """`stop_sequence` once one is complete."""
        return "stop_sequence" if self._states[-1] < 0 else None

    def mask(self, row: Any) -> None:
        """Forbids nothing."""

    def forced(self) -> Sequence[int]:
        """Forces nothing."""
        return ()

    def accept(self, ids: Sequence[int]) -> None:
        """Advances past tokens; those after a complete sequence change nothing."""
        for token in ids:
            self._states.append(self._after(self._states[-1], token))

    def rollback(self, n: int) -> None:
        """Takes back the last `n` accepted tokens."""
        if n > 0:
            del self._states[max(1, len(self._states) - n) :]

    def possible(self, ids: Collection[int]) -> Collection[int]:
        """All of `ids`."""
        return ids

    def _after(self, state: int, token: int) -> int:
        if state < 0:
            return state
        _, state = self._automaton.run(_bytes_as_text(self._piece(token)), 0, state)
        return -1 if self._automaton.match[state] is not None else state


def _bytes_as_text(data: bytes) -> str:
    """One character a byte: tokens may end inside a character."""
    return data.decode("latin-1")
