"""Which tokens lie in which sequence's cells, and whose sequence it is. Pure: no model inside.

Which prefix has to go is decided by GreedyDual (Young 1994): what is left has the worth of its tokens, counted from the
worth of what went last. So a long conversation outlives many short requests between its turns, but not for ever.

Invariant: a slot's `tokens[0:n]` are exactly what the model computed at positions [0, n) of that sequence. A slot is
held by one job or by nobody; what nobody holds is a prefix that a later job may find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SMALL_LOSS = 16
"""Tokens that are recomputed sooner than a sequence is copied: a trimmed end, the last line of a prompt."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix. Bisects over slices, which compare at C speed."""
    if type(a) is not type(b):
        # A list and a tuple are never equal.
        a, b = tuple(a), tuple(b)
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(slots=True)
class Slot:
    """One of the model's sequences. Its first `copied` tokens came from another one, where they may lie still."""

    index: int
    tokens: list[int] = field(default_factory=list)
    holder: str | None = None
    last_used: int = 0
    copied: int = 0
    worth: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job goes and what it finds there: `keep` tokens of `slot`, or `keep` tokens copied from `source`."""

    slot: int
    keep: int
    source: int | None


class SlotTable:
    """All sequences of one model. `can_share` says whether a part of one may be copied into another."""

    def __init__(self, n_slots: int, *, can_share: bool = True) -> None:
        self._slots = [Slot(index) for index in range(n_slots)]
        self._can_share = can_share
        self._clock = 0
        self._worth_of_the_last_lost = 0

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def place(self, prompt: Sequence[int]) -> Placement | None:
        """The best place for a prompt; None if every slot is held. Changes nothing.

        At least one token of the prompt is left to compute, because only a computed token has logits.
        """
        free = [slot for slot in self._slots if slot.holder is None]
        if not free:
            return None
        reusable = prompt[:-1]
        best_free = max(free, key=lambda slot: (common_prefix(slot.tokens, reusable), -slot.last_used))
        kept = common_prefix(best_free.tokens, reusable)
        if kept and len(best_free.tokens) - kept <= self._may_be_lost(kept):
            return Placement(best_free.index, kept, None)
        target = min(free, key=_missed)
        if not self._can_share:
            return Placement(target.index, common_prefix(target.tokens, reusable), None)
        source = max(self._slots, key=lambda slot: common_prefix(slot.tokens, reusable))
        shared = common_prefix(source.tokens, reusable)
        if source is target or not shared:
            return Placement(target.index, shared if source is target else 0, None)
        return Placement(target.index, shared, source.index)

    def longest(self, prompt: Sequence[int]) -> int:
        """How many tokens `prompt` begins with of any sequence."""
        return max(common_prefix(slot.tokens, prompt) for slot in self._slots)

    def hold(self, placement: Placement, holder: str, prompt: Sequence[int]) -> None:
        """Gives the slot to a job, with the first `keep` tokens of its prompt in it."""
        slot = self._slots[placement.slot]
        if slot.tokens and (placement.source is not None or not placement.keep):
            self._worth_of_the_last_lost = max(self._worth_of_the_last_lost, slot.worth)
        slot.copied = placement.keep if placement.source is not None else min(slot.copied, placement.keep)
        slot.holder = holder
        slot.tokens = list(prompt[: placement.keep])
        self._touch(slot)

    def extend(self, index: int, tokens: Sequence[int]) -> None:
        """Records tokens that were computed."""
        self._slots[index].tokens.extend(tokens)

    def truncate(self, index: int, length: int) -> None:
        """Records that the cells from `length` on are gone."""
        del self._slots[index].tokens[length:]

    def release(self, index: int) -> None:
        """Gives the slot back; its tokens stay as a prefix to find."""
        slot = self._slots[index]
        slot.holder = None
        slot.worth = self._worth_of_the_last_lost + len(slot.tokens) - slot.copied
        self._touch(slot)

    def fill(self, index: int, tokens: Sequence[int]) -> None:
        """Records what was put into a slot that nobody holds."""
        slot = self._slots[index]
        slot.tokens, slot.copied, slot.worth = list(tokens), 0, self._worth_of_the_last_lost + len(tokens)
        self._touch(slot)

    def least_missed_free(self) -> int | None:
        """The free slot whose tokens are missed least."""
        free = [slot for slot in self._slots if slot.holder is None]
        return min(free, key=_missed).index if free else None

    def idle(self) -> list[tuple[int, int]]:
        """(slot, cells that only it needs) of every prefix that nobody computes on, used longest ago first."""
        idle = sorted((slot for slot in self._slots if slot.holder is None and slot.tokens), key=_last_used)
        others = [slot.tokens for slot in self._slots if slot.holder is not None]
        found = []
        for slot in reversed(idle):
            shared = max((common_prefix(slot.tokens, tokens) for tokens in others), default=0)
            found.append((slot.index, len(slot.tokens) - shared))
            others.append(slot.tokens)
        return found[::-1]

    def oldest_idle(self) -> int | None:
        """The slot whose cells are missed least: held by nobody, used longest ago."""
        idle = [slot for slot in self._slots if slot.holder is None and slot.tokens]
        return min(idle, key=lambda slot: slot.last_used).index if idle else None

    def n_cells(self, index: int, n_tokens: int) -> int:
        """At least so many cells are needed for `n_tokens` of a held slot; what it was copied from may be shared."""
        return n_tokens - self._slots[index].copied

    def holders(self) -> dict[str, int]:
        """Job id → slot."""
        return {slot.holder: slot.index for slot in self._slots if slot.holder is not None}

    def _may_be_lost(self, kept: int) -> int:
        """How many tokens behind a kept prefix may be overwritten: they may be the turn of another conversation.

        Where nothing can be copied the choice is between them and the prefix.
        """
        return SMALL_LOSS if self._can_share else kept

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def _missed(slot: Slot) -> tuple[bool, int, int]:
    """An empty one is not missed at all."""
    return (bool(slot.tokens), slot.worth, slot.last_used)


def _last_used(slot: Slot) -> int:
    return slot.last_used
