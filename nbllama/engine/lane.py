"""One model in the engine: its runtime, its books, what a step does with them. Engine thread, but for `in_flight`."""

from __future__ import annotations

import time

from nbllama.engine.errors import DecodeAborted, DecodeFailed, EngineError, EngineStopped, NoCells
from nbllama.engine.in_flight import InFlight
from nbllama.engine.jobs import Failed, Finished, FinishReason, Job, Progress, Started, Tokens
from nbllama.engine.prefix_store import WORTH_TOKENS, PrefixStore
from nbllama.engine.runtime import Runtime
from nbllama.engine.scheduler import Scheduler, Step
from nbllama.engine.sequence import Sequence
from nbllama.engine.slots import Placement, SlotTable

# A stream beside a prefill waits for the whole step: 250 ms is felt as a pause but not as a stall, and chunks below
# about 64 tokens cost prefill speed (measured: 512/128/64/32/16 tokens a chunk: 144/146/137/132/108 tokens/s).
PREFILL_SECONDS_BESIDE_OTHERS = 0.25
SMALLEST_CHUNK = 16
# Before anything was measured: whole batches beside a stream would stop it for as long as they take.
FIRST_CHUNK = 64
# So many cells may lie idle beside those who compute: at 512, a step of a 0.6B model is 1 % slower, a prefill 2 %.
IDLE_CELLS = 512


class Lane:
    """Runs the jobs of one model, a step at a time."""

    def __init__(self, runtime: Runtime, *, cache_bytes: int = 0) -> None:
        info = runtime.info
        self.runtime = runtime
        self._store = PrefixStore(cache_bytes)
        slots = SlotTable(info.max_sequences, can_share=info.can_share)
        self.scheduler = Scheduler(slots, n_batch=info.n_batch, n_cells=info.n_cells)
        self.in_flight = InFlight(runtime.interrupt)
        self._seconds_per_prefill_token = 0.0
        self._touched: dict[int, Sequence] = {}
        self._queue_changed = False

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.waiting or self.scheduler.running)

    @property
    def only_decodes(self) -> bool:
        """Whether the next step computes one token for each of those that run, and nothing else."""
        return not self.scheduler.waiting and all(sequence.decodes for sequence in self.scheduler.running)

    def add(self, job: Job) -> None:
        self._touch(self.scheduler.add(job))
        self._queue_changed = True

    def cancel(self, job_id: str) -> None:
        """Ends a job that is still here; a job that has ended already is not there to cancel."""
        if sequence := self.scheduler.find(job_id):
            self._finish(sequence, "cancelled")
            self._queue_changed = True
        self.in_flight.forget(job_id)

    def fail_all(self, error: EngineError) -> None:
        """Ends every job with an error."""
        for sequence in (*self.scheduler.running, *self.scheduler.waiting):
            self._fail(sequence, error)

    def reset(self) -> None:
        """After a bug in a step: ends every job and forgets all cells, because nobody knows what they hold."""
        self.fail_all(EngineError("the engine failed in a step"))
        for index in range(self.runtime.info.max_sequences):
            self._forget(index)

    def step(self) -> None:
        """Admit, plan, decode, sample, and hand out: the engine's heart."""
        self._admit()
        step = self.scheduler.next_step(self._prefill_budget())
        if step is None:
            return
        with self.in_flight.step(share.sequence.job.id for share in step.shares) as wanted:
            if wanted and self._decode(step):
                self.scheduler.complete(step)
                self._sample(step)

    def collect(self) -> list[Sequence]:
        """The sequences that something happened to since the last call."""
        touched = list(self._touched.values())
        self._touched.clear()
        return touched

    def close(self, reason: str) -> None:
        """Ends every job because of `reason`, and frees the model."""
        self.fail_all(EngineStopped(reason))
        self.runtime.close()

    def _admit(self) -> None:
        n_running = len(self.scheduler.running)
        while self._bring_back() and (placement := self.scheduler.can_admit()):
            slot = self.scheduler.slots[placement.slot]
            if 2 * placement.keep < len(slot.tokens):
                # Another conversation's: it comes back.
                self._saved(placement.slot)
            if placement.source is not None:
                self.runtime.clear(placement.slot)
                self.runtime.copy(placement.source, placement.slot, placement.keep)
            elif len(slot.tokens) > placement.keep and not self.runtime.cut(placement.slot, placement.keep):
                # Memory that cannot be cut there (recurrent, hybrid): what lay there is gone.
                self._forget(placement.slot)
                placement = Placement(placement.slot, 0, None)
            self._start(self.scheduler.admit(placement))
            self._queue_changed = True
        if len(self.scheduler.running) > n_running:
            self._clear_the_way()
        if self._queue_changed:
            self._queue_changed = False
            self._tell_positions()

    def _bring_back(self) -> bool:
        """Copies the prefix that the next job continues into a free slot, where it is found like any other.

        Says whether anybody waits."""
        slots, waiting = self.scheduler.slots, self.scheduler.waiting
        if not waiting or not len(self._store) or (placement := self.scheduler.can_admit()) is None:
            return bool(waiting)
        found = self._store.best(waiting[0].tokens[:-1], whole=not self.runtime.info.can_share)
        target = slots.least_missed_free()
        if found is not None and target is not None:
            prefix, n_used = found
            # A long one of which little is used costs more to copy than that little costs to compute: some 500 tokens
            # are copied in the time of one. Four times that, because what is copied back shares no cells.
            if n_used - placement.keep >= max(WORTH_TOKENS, len(prefix.tokens) // 128):
                self._set_aside(target)
                if self.runtime.restore(target, prefix.cells):
                    slots.fill(target, prefix.tokens)
                    self._store.use(prefix, n_used)
        return True

    def _clear_the_way(self) -> None:
        """Moves idle prefixes out of the cells, those used longest ago first, until few lie beside who computes."""
        idle = self.scheduler.slots.idle()
        n_cells = sum(n for _, n in idle)
        for slot, n in idle:
            if n_cells <= IDLE_CELLS:
                return
            if n and self._saved(slot):
                self._forget(slot)
                n_cells -= n

    def _set_aside(self, slot: int) -> None:
        """Empties a slot that nobody holds; what lies there is kept in memory if there is room."""
        self._saved(slot)
        self._forget(slot)

    def _saved(self, slot: int) -> bool:
        """Whether a slot's prefix is in memory now."""
        tokens = self.scheduler.slots[slot].tokens
        if self._store.covers(tokens):
            return True
        if not self._store.takes(tokens, self.runtime.saved_size(slot)):
            return False
        if (cells := self.runtime.save(slot)) is None:
            return False
        self._store.put(tokens, cells)
        return True

    def _start(self, sequence: Sequence) -> None:
        if sequence.sampler is None:
            sequence.sampler = self.runtime.new_sampler(sequence.job.sampling)
        if not sequence.started:
            sequence.started = True
            sequence.outcomes.append(Started(sequence.computed))
        self._touch(sequence)

    def _prefill_budget(self) -> int:
        alone = not any(sequence.decodes for sequence in self.scheduler.running)
        if alone:
            return self.runtime.info.n_batch
        if not self._seconds_per_prefill_token:
            return FIRST_CHUNK
        return max(SMALLEST_CHUNK, int(PREFILL_SECONDS_BESIDE_OTHERS / self._seconds_per_prefill_token))

    def _decode(self, step: Step) -> bool:
        began = time.perf_counter()
        try:
            self.runtime.decode(step.rows)
        except NoCells:
            self._make_room()
            return False
        except DecodeAborted:
            self._roll_back(step)
            return False
        except DecodeFailed as error:
            for share in step.shares:
                slot = share.sequence.slot
                self._fail(share.sequence, error)
                # After a failed decode nobody knows what the cells hold.
                if slot is not None:
                    self._forget(slot)
            return False
        if step.n_prefill >= SMALLEST_CHUNK:
            self._seconds_per_prefill_token = (time.perf_counter() - began) / step.n_prefill
        return True

    def _roll_back(self, step: Step) -> None:
        """Takes out of the cells whatever an interrupted decode left there."""
        for share in step.shares:
            sequence = share.sequence
            if (slot := sequence.slot) is None:
                continue
            # A state that cannot be cut may be written half.
            if not self.runtime.info.can_share or not self.runtime.cut(slot, sequence.computed):
                self._forget(slot)
                sequence.computed = 0

    def _make_room(self) -> None:
        """Frees cells: an idle prefix first, then the sequence that can wait best, which is recomputed later."""
        idle = self.scheduler.slots.oldest_idle()
        if idle is not None:
            self._set_aside(idle)
        elif sequence := self.scheduler.preemptible():
            self.runtime.clear(self.scheduler.preempt(sequence))
        else:
            for sequence in list(self.scheduler.running):
                self._fail(sequence, NoCells("the context has no room for this request alone"))

    def _sample(self, step: Step) -> None:
        for share in step.shares:
            if share.row is None:
                self._tell_prefill(share.sequence)
            elif share.sequence.job.max_tokens == 0:
                # A request for no tokens warms the cache: the prompt is computed, nothing is drawn.
                self._finish(share.sequence, "length")
            else:
                self._advance(share.sequence, share.row)

    def _advance(self, sequence: Sequence, row: int) -> None:
        """Draws the next token, adds what the guide forces after it, and ends the sequence where it is due."""
        job, vocabulary = sequence.job, self.runtime.vocabulary
        if sequence.sampler is None:
            raise EngineError(f"{job.id} has no sampler")
        token = self.runtime.sample(row, sequence.sampler, job.guide)
        sequence.tokens.append(token)
        if vocabulary.is_end_of_generation(token):
            self._finish(sequence, "end")
            return
        ids = [token]
        if job.guide is not None:
            job.guide.accept(ids)
            if not job.guide.stop and (forced := self._forced(sequence)):
                job.guide.accept(forced)
                sequence.tokens.extend(forced)
                ids.extend(forced)
        text = "".join(sequence.detokenizer.feed(vocabulary.piece(token)) for token in ids)
        sequence.outcomes.append(Tokens(tuple(ids), text))
        self._touch(sequence)
        if reason := self._due(sequence):
            self._finish(sequence, reason)

    def _forced(self, sequence: Sequence) -> list[int]:
        room = min(sequence.job.max_tokens - sequence.n_generated, self.runtime.info.n_ctx - len(sequence.tokens))
        return list(sequence.job.guide.forced())[: max(0, room)] if sequence.job.guide else []

    def _due(self, sequence: Sequence) -> FinishReason | None:
        if sequence.job.guide is not None and sequence.job.guide.stop:
            return "stop"
        if sequence.n_generated >= sequence.job.max_tokens:
            return "length"
        if len(sequence.tokens) >= self.runtime.info.n_ctx:
            return "context"
        return None

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._leave(sequence)
        sequence.outcomes.append(Finished(reason, sequence.n_generated))

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._leave(sequence)
        sequence.outcomes.append(Failed(error))

    def _leave(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence)
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None
        self._touch(sequence)

    def _forget(self, slot: int) -> None:
        self.runtime.clear(slot)
        self.scheduler.slots.truncate(slot, 0)

    def _tell_positions(self) -> None:
        for position, sequence in enumerate(self.scheduler.waiting):
            sequence.outcomes.append(Progress(position + 1, 0, len(sequence.tokens)))
            self._touch(sequence)

    def _tell_prefill(self, sequence: Sequence) -> None:
        sequence.outcomes.append(Progress(0, sequence.computed, len(sequence.tokens)))
        self._touch(sequence)

    def _touch(self, sequence: Sequence) -> None:
        self._touched[sequence.order] = sequence
