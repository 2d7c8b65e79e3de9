"""Prefixes that wait in memory, out of the way of those who compute. Pure: no model inside.

Idle cells are not free: attention spans to the highest used cell, and 1,000 of them cost a decode step of a 0.6B model
2 % and a prefill 5 %. Copying a prefix out or back takes 11 µs a token, computing it again 5,700 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nbllama.engine.slots import common_prefix

Cells = npt.NDArray[np.uint8]
"""What a runtime saved of one sequence; only the same runtime can read it."""

# Below this many tokens a copy is not worth its bookkeeping.
WORTH_TOKENS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The tokens of a sequence and what was computed for them."""

    tokens: tuple[int, ...]
    cells: Cells


class PrefixStore:
    """The most recently used prefixes of one model, at most `max_bytes` of cells."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._prefixes: list[Prefix] = []

    def __len__(self) -> int:
        return len(self._prefixes)

    def takes(self, tokens: Sequence[int], n_bytes: int) -> bool:
        """Whether a prefix of this size may be kept."""
        return len(tokens) >= WORTH_TOKENS and n_bytes <= self.max_bytes

    def covers(self, tokens: Sequence[int]) -> bool:
        """Whether all of these tokens are the beginning of one that is kept."""
        return any(prefix.tokens[: len(tokens)] == tuple(tokens) for prefix in self._prefixes)

    def put(self, tokens: Sequence[int], cells: Cells) -> list[Prefix]:
        """Keeps a prefix. Those that it continues are superseded; the longest unused ones go when room is short.

        Gives these."""
        prefix = Prefix(tuple(tokens), cells)
        for old in [old for old in self._prefixes if old.tokens == prefix.tokens[: len(old.tokens)]]:
            self.remove(old)
        self._prefixes.append(prefix)
        self.n_bytes += cells.nbytes
        gone = []
        while self.n_bytes > self.max_bytes:
            gone.append(self._prefixes[0])
            self.remove(self._prefixes[0])
        return gone

    def longest(self, prompt: Sequence[int]) -> int:
        """How many tokens `prompt` begins with of any of them."""
        return max((common_prefix(prefix.tokens, prompt) for prefix in self._prefixes), default=0)

    def best(self, prompt: Sequence[int], *, whole: bool) -> tuple[Prefix, int] | None:
        """The prefix that most of `prompt` begins with, and how many tokens of it; `whole`: only one used entirely."""
        found = [(prefix, common_prefix(prefix.tokens, prompt)) for prefix in self._prefixes]
        found = [(prefix, n) for prefix, n in found if n and (n == len(prefix.tokens) or not whole)]
        return max(found, key=lambda pair: pair[1]) if found else None

    def use(self, prefix: Prefix, n_used: int) -> None:
        """It was copied back: gone from here if most of it is used, else it counts as used just now."""
        self.remove(prefix)
        if 2 * n_used < len(prefix.tokens):
            self._prefixes.append(prefix)
            self.n_bytes += prefix.cells.nbytes

    def remove(self, prefix: Prefix) -> None:
        self._prefixes.remove(prefix)
        self.n_bytes -= prefix.cells.nbytes
