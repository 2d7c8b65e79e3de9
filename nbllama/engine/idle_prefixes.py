"""Prefixes that nobody computes on: out of the cells into memory, and back when a prompt continues them. Engine thread.

What cannot be kept is noted in `forgotten`, so that a prompt which misses it can be told why."""

from __future__ import annotations

from nbllama.engine.prefix_store import WORTH_TOKENS, PrefixStore
from nbllama.engine.reuse import MEMORY_FULL, TAKEN, WHOLE, WORTH_SAYING, Forgotten, Reuse, Source, reason
from nbllama.engine.runtime import Runtime
from nbllama.engine.slots import Placement, SlotTable

# So many cells may lie idle beside those who compute: at 512, a step of a 0.6B model is 1 % slower, a prefill 2 %.
IDLE_CELLS = 512


class IdlePrefixes:
    """Of one model. `slots` are its sequences, the lane's own table."""

    def __init__(self, runtime: Runtime, slots: SlotTable, store: PrefixStore) -> None:
        self._runtime = runtime
        self._slots = slots
        self._store = store
        self._brought_back: int | None = None
        self.forgotten = Forgotten()

    @property
    def n_in_memory(self) -> int:
        return len(self._store)

    def bring_back(self, tokens: list[int], placement: Placement) -> None:
        """Copies the prefix that `tokens` continue into a free slot, where it is found like any other."""
        found = self._store.best(tokens[:-1], whole=not self._runtime.info.can_share)
        target = self._slots.least_missed_free()
        if found is not None and target is not None:
            prefix, n_used = found
            # A long one of which little is used costs more to copy than that little costs to compute: some 500 tokens
            # are copied in the time of one. Four times that, because what is copied back shares no cells.
            if n_used - placement.keep >= max(WORTH_TOKENS, len(prefix.tokens) // 128):
                self.set_aside(target, TAKEN)
                if self._runtime.restore(target, prefix.cells):
                    self._slots.fill(target, prefix.tokens)
                    self._store.use(prefix, n_used)
                    self._brought_back = target

    def place(self, tokens: list[int], placement: Placement) -> tuple[Placement, Reuse]:
        """Makes the cells of a placement what it says; gives where the sequence really begins, and why there."""
        keep, source = placement.keep, self._source(placement)
        self._brought_back = None
        longest = max(self._slots.longest(tokens[:-1]), self._store.longest(tokens[:-1]))
        from_slot = placement.slot if placement.source is None else placement.source
        ended = len(self._slots[from_slot].tokens) == keep
        self._give_way(placement)
        if placement.source is not None:
            self._runtime.clear(placement.slot)
            self._runtime.copy(placement.source, placement.slot, keep)
        elif len(self._slots[placement.slot].tokens) > keep and not self._runtime.cut(placement.slot, keep):
            # Memory that cannot be cut there (recurrent, hybrid): what lay there is gone.
            self.forget(placement.slot)
            return Placement(placement.slot, 0, None), Reuse("none", WHOLE)
        shares = self._runtime.info.can_share
        why = reason(tokens, keep, longest=longest, ended=ended, shares=shares, gone=self.forgotten)
        return placement, Reuse(source, why)

    def clear_the_way(self) -> None:
        """Moves idle prefixes out of the cells, those used longest ago first, until few lie beside who computes."""
        idle = self._slots.idle()
        n_cells = sum(n for _, n in idle)
        for slot, n in idle:
            if n_cells <= IDLE_CELLS:
                return
            if n and self._saved(slot):
                self.forget(slot)
                n_cells -= n

    def set_aside(self, slot: int, why: str) -> None:
        """Empties a slot that nobody holds; what lies there is kept in memory if there is room, else lost by `why`."""
        self.forget(slot, None if self._saved(slot) else why)

    def forget(self, slot: int, why: str | None = None) -> None:
        """Empties a slot. `why` its tokens are lost with it; None where they are not, or nobody will miss them."""
        if why is not None:
            self.forgotten.add(self._slots[slot].tokens, why)
        self._runtime.clear(slot)
        self._slots.truncate(slot, 0)

    def _give_way(self, placement: Placement) -> None:
        """Keeps what the placement overwrites, where it is another conversation's: it comes back."""
        tokens = self._slots[placement.slot].tokens
        kept = placement.keep if placement.source is None else 0
        if 2 * placement.keep < len(tokens) and self._saved(placement.slot):
            return
        if len(tokens) - kept >= WORTH_SAYING:
            self.forgotten.add(tokens, TAKEN)

    def _source(self, placement: Placement) -> Source:
        if not placement.keep:
            return "none"
        if self._brought_back == (placement.slot if placement.source is None else placement.source):
            return "memory"
        shared = placement.source is not None and self._slots[placement.source].holder is not None
        return "running sequence" if shared else "idle sequence"

    def _saved(self, slot: int) -> bool:
        """Whether a slot's prefix is in memory now."""
        tokens = self._slots[slot].tokens
        if self._store.covers(tokens):
            return True
        if not self._store.takes(tokens, self._runtime.saved_size(slot)):
            return False
        if (cells := self._runtime.save(slot)) is None:
            return False
        for gone in self._store.put(tokens, cells):
            self.forgotten.add(gone.tokens, MEMORY_FULL)
        return True
