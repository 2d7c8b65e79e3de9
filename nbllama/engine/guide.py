"""What may steer a sequence while it is generated: stop sequences, grammars, a thinking budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


class Guide(Protocol):
    """One sequence's guide. Called in the engine thread only, between two steps; must not block.

    Implemented outside the engine (in `chat`), which therefore needs to know no text and no grammar.
    """

    @property
    def stop(self) -> str | None:
        """The reason to end the sequence now (`stop_sequence`, `grammar_end`), or None. Changes only in `accept`."""

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        """Sets the logits of forbidden tokens to -inf, in place. `row` has shape (n_vocab,). No other effect."""

    def forced(self) -> Sequence[int]:
        """The tokens that must come next whatever the logits say; empty when there is a choice. No effect."""

    def accept(self, ids: Sequence[int]) -> None:
        """Advances past generated tokens. Raises nothing: a guide that cannot follow sets `stop`."""

    def rollback(self, n: int) -> None:
        """Takes back the last `n` accepted tokens (a rejected draft)."""


@runtime_checkable
class BitGuide(Guide, Protocol):
    """A guide that knows its mask as bits, so that a draw need not write to the whole row."""

    def allowed(self) -> npt.NDArray[np.uint32]:
        """One bit for each token, lowest first, set where it is allowed. Valid until the guide is called again."""
