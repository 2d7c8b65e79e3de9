"""Who runs in the next step. Pure: no clock, no thread, no model inside.

Strategy: every decoding sequence gets its one token first, so that no stream stalls; what is left of the step goes to
prefills, oldest first, in chunks that the loop sizes by time. Jobs wait in order of priority, then of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbllama.engine.jobs import Job
from nbllama.engine.runtime import Row
from nbllama.engine.sequence import Sequence
from nbllama.engine.slots import Placement, SlotTable
from nbllama.errors import NbllamaError


@dataclass(frozen=True, slots=True)
class Share:
    """One sequence's part of a step: `n_tokens` from `computed` on; `row` is where its logits will be, if wanted.

    `first` is the batch's row of the first of them. `reread` are positions of tokens whose logits it will have, too."""

    sequence: Sequence
    n_tokens: int
    row: int | None
    first: int = 0
    reread: range = range(0)


@dataclass(frozen=True, slots=True)
class Step:
    """A batch: its rows, and which sequence each belongs to."""

    rows: list[Row]
    shares: list[Share]
    n_prefill: int


class IntegrityError(NbllamaError):
    """The scheduler's books do not add up: a bug of ours."""


class Scheduler:
    """The books of one model: who waits, who runs, which slot is whose."""

    def __init__(self, slots: SlotTable, *, n_batch: int, n_cells: int | None = None) -> None:
        self.slots = slots
        self.n_batch = n_batch
        self._n_cells = n_cells
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._order = 0

    def add(self, job: Job) -> Sequence:
        """Puts a job at the end of its priority's queue."""
        self._order += 1
        sequence = Sequence(job, self._order)
        self._enqueue(sequence)
        return sequence

    def can_admit(self) -> Placement | None:
        """Where the first waiting sequence would go now; None if nobody waits, no slot is free, or it cannot stay."""
        if not self.waiting or (placement := self.slots.place(self.waiting[0].tokens)) is None:
            return None
        return placement if self._can_stay(self.waiting[0], placement) else None

    def admit(self, placement: Placement) -> Sequence:
        """Moves the first waiting sequence to the running ones."""
        sequence = self.waiting.pop(0)
        self.slots.hold(placement, sequence.job.id, sequence.tokens)
        sequence.slot = placement.slot
        sequence.computed = placement.keep
        self.running.append(sequence)
        return sequence

    def next_step(self, prefill_budget: int) -> Step | None:
        """The next batch, at most `n_batch` rows; at most `prefill_budget` of them prefill. None if nobody runs."""
        rows: list[Row] = []
        shares: list[Share] = []
        for sequence in self._decoding():
            shares.append(self._take(sequence, 1, rows))
        budget = min(prefill_budget, self.n_batch - len(rows))
        n_prefill = 0
        for sequence in self._prefilling():
            n_tokens = min(sequence.n_pending, budget - n_prefill)
            if n_tokens <= 0:
                break
            shares.append(self._take(sequence, n_tokens, rows))
            n_prefill += n_tokens
        return Step(rows, shares, n_prefill) if rows else None

    def complete(self, step: Step) -> None:
        """Books what a decoded step computed."""
        for share in step.shares:
            sequence = share.sequence
            start = sequence.computed
            sequence.computed += share.n_tokens
            sequence.count(start)
            self.slots.extend(_slot_of(sequence), sequence.tokens[start : sequence.computed])

    def finish(self, sequence: Sequence) -> None:
        """Takes a sequence out, wherever it is. Its slot is free; what it computed stays there to be found."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self.slots.release(sequence.slot)
        sequence.slot = None
        for waiting in self.waiting:
            waiting.sent_away = False

    def preemptible(self) -> Sequence | None:
        """Whom to stop for now when cells run out: lowest priority, then youngest; never the only one."""
        if len(self.running) < 2:
            return None
        return min(self.running, key=lambda sequence: sequence.standing)

    def preempt(self, sequence: Sequence) -> int:
        """Sends a running sequence back to the queue. Gives its slot, whose cells the caller clears.

        It made room for a higher priority once and counts as that from now on, or a stream of such would starve it.
        """
        sequence.priority = max(running.priority for running in self.running)
        sequence.sent_away = True
        slot = _slot_of(sequence)
        self.running.remove(sequence)
        self.slots.truncate(slot, 0)
        self.slots.release(slot)
        sequence.slot = None
        sequence.computed = 0
        self._enqueue(sequence)
        return slot

    def find(self, job_id: str) -> Sequence | None:
        return next((s for s in (*self.running, *self.waiting) if s.job.id == job_id), None)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless every slot is held by exactly the sequence that says so, and cells match."""
        holders = self.slots.holders()
        held = {sequence.job.id: sequence.slot for sequence in self.running}
        if holders != held:
            raise IntegrityError(f"slots are held by {holders}, but running are {held}")
        for sequence in self.running:
            resident = self.slots[_slot_of(sequence)].tokens
            if resident != sequence.tokens[: sequence.computed]:
                raise IntegrityError(f"{sequence.job.id} computed {sequence.computed} tokens, its slot holds others")
        if any(sequence.slot is not None for sequence in self.waiting):
            raise IntegrityError("a waiting sequence holds a slot")

    def _enqueue(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)
        self.waiting.sort(key=lambda sequence: sequence.standing, reverse=True)

    def _can_stay(self, sequence: Sequence, placement: Placement) -> bool:
        """Whether there are cells for it, beside those who would not have to make room for it.

        Otherwise it would be prefilled in vain. Who was sent away waits until somebody has left: it would take the
        cells again in the next step, and nobody would get anywhere.
        """
        if not self.running or self._n_cells is None:
            return True
        if sequence.sent_away:
            return False
        shares = placement.source is not None and self.slots[placement.source].holder is not None
        needed = len(sequence.tokens) + 1 - (placement.keep if shares else 0)
        for running in self.running:
            if running.standing > sequence.standing:
                needed += self.slots.n_cells(_slot_of(running), len(running.tokens))
        return needed <= self._n_cells

    def _decoding(self) -> Iterable[Sequence]:
        return [sequence for sequence in self.running if sequence.decodes][: self.n_batch]

    def _prefilling(self) -> Iterable[Sequence]:
        return sorted((s for s in self.running if s.n_pending and not s.decodes), key=lambda s: s.order)

    def _take(self, sequence: Sequence, n_tokens: int, rows: list[Row]) -> Share:
        start, end = sequence.computed, sequence.computed + n_tokens
        last = end == len(sequence.tokens)
        slot = _slot_of(sequence)
        reread = range(max(start + 1, sequence.unread.start), min(end, sequence.unread.stop - 1) + 1)
        first = len(rows)
        for position in range(start, end):
            wanted = last and position == end - 1
            rows.append(Row(sequence.tokens[position], position, slot, wanted or position + 1 in reread))
        return Share(sequence, n_tokens, len(rows) - 1 if last else None, first, reread)


def _slot_of(sequence: Sequence) -> int:
    if sequence.slot is None:
        raise IntegrityError(f"{sequence.job.id} runs without a slot")
    return sequence.slot
