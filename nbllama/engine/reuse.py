"""Why not more of a prompt was cached, as far as the engine knows: what it holds, and what it held lately. Pure."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nbllama.engine.slots import common_prefix

Source = Literal["idle sequence", "running sequence", "memory", "none"]

# What gave way to others is remembered for the newest of them, so that a prompt which misses it is told.
MOST_PREFIXES = 64
MOST_TOKENS = 1 << 18
# A shorter common beginning is the template's.
WORTH_SAYING = 16

TAKEN = "their sequence was given to another request, and there was no room for them in memory (cache_ram)"
MEMORY_FULL = "the memory for idle prefixes (cache_ram) was full"
CELLS_RAN_OUT = "the context's cells ran out"
FAILED = "a step failed, after which nobody knows what the cells hold"
INTERRUPTED = "the step that computed them was interrupted"

ALL = "all of it was cached; the last token is always computed, because the next one is drawn from it"
NOTHING = "nothing that begins like this prompt has been computed"
GOES_ON = "the prompt goes on behind the end of what had been computed"
DIFFERS = "from here on the prompt differs from what had been computed"
WHOLE = "this model's state cannot be cut or shared: a prefix is kept only where the prompt continues all of it"
NOT_WORTH = "{} tokens wait in memory, but to compute them again was quicker than to copy all that they are part of"


@dataclass(frozen=True, slots=True)
class Reuse:
    """Where a job's cached tokens came from, and why they were not more, in words."""

    source: Source
    reason: str


class Forgotten:
    """Prefixes that are gone, each with the reason: the newest, bounded in number and tokens."""

    def __init__(self, *, max_prefixes: int = MOST_PREFIXES, max_tokens: int = MOST_TOKENS) -> None:
        self._max_prefixes = max_prefixes
        self._max_tokens = max_tokens
        self._gone: deque[tuple[array[int], str]] = deque()
        self.n_tokens = 0

    def __len__(self) -> int:
        return len(self._gone)

    def add(self, tokens: Sequence[int], why: str) -> None:
        """Remembers a prefix that is nowhere any more."""
        if not WORTH_SAYING <= len(tokens) <= self._max_tokens:
            return
        self._gone.append((array("i", tokens), why))
        self.n_tokens += len(tokens)
        while len(self._gone) > self._max_prefixes or self.n_tokens > self._max_tokens:
            self.n_tokens -= len(self._gone.popleft()[0])

    def best(self, prompt: Sequence[int], longer_than: int) -> tuple[int, str] | None:
        """How many tokens `prompt` begins with of one that is gone, and why that is; None for not more than a few."""
        if not self._gone:
            return None
        wanted = array("i", prompt)
        found = max(((common_prefix(tokens, wanted), why) for tokens, why in reversed(self._gone)), key=_length)
        return found if found[0] >= longer_than + WORTH_SAYING else None


def reason(prompt: Sequence[int], keep: int, *, longest: int, ended: bool, shares: bool, gone: Forgotten) -> str:
    """Why `keep` tokens of `prompt` were cached and not more.

    `longest`: so many tokens it begins with of anything that is held; `ended`: what was kept was used to its end;
    `shares`: the memory can be cut and shared.
    """
    if keep >= len(prompt) - 1:
        return ALL
    if longest > keep:
        return NOT_WORTH.format(longest) if shares else WHOLE
    if lost := gone.best(prompt[:-1], keep):
        return f"{lost[0]} tokens of it had been computed, but {lost[1]}"
    if not keep:
        return NOTHING
    return GOES_ON if ended else DIFFERS


def _length(found: tuple[int, str]) -> int:
    return found[0]
