"""One model in the engine: its runtime, its books, what a step does with them. Engine thread, but for `in_flight`."""

from __future__ import annotations

import time

from nbllama.engine.drawing import Drawing
from nbllama.engine.errors import DecodeAborted, DecodeFailed, EngineError, EngineStopped, NoCells
from nbllama.engine.idle_prefixes import IdlePrefixes
from nbllama.engine.in_flight import InFlight
from nbllama.engine.jobs import Failed, Finished, FinishReason, Job, Progress, Started, Tokens
from nbllama.engine.prefix_store import PrefixStore
from nbllama.engine.reuse import CELLS_RAN_OUT, FAILED, INTERRUPTED, Reuse
from nbllama.engine.runtime import Runtime
from nbllama.engine.scheduler import Scheduler, Step
from nbllama.engine.sequence import Sequence
from nbllama.engine.slots import SlotTable

# A stream beside a prefill waits for the whole step: 250 ms is felt as a pause but not as a stall, and chunks below
# about 64 tokens cost prefill speed (measured: 512/128/64/32/16 tokens a chunk: 144/146/137/132/108 tokens/s).
PREFILL_SECONDS_BESIDE_OTHERS = 0.25
SMALLEST_CHUNK = 16
# Before anything was measured: whole batches beside a stream would stop it for as long as they take.
FIRST_CHUNK = 64


class Lane:
    """Runs the jobs of one model, a step at a time."""

    def __init__(self, runtime: Runtime, *, cache_bytes: int = 0) -> None:
        info = runtime.info
        self.runtime = runtime
        slots = SlotTable(info.max_sequences, can_share=info.can_share)
        self._prefixes = IdlePrefixes(runtime, slots, PrefixStore(cache_bytes))
        self.scheduler = Scheduler(slots, n_batch=info.n_batch, n_cells=info.n_cells)
        self.in_flight = InFlight(runtime.interrupt)
        self._drawing = Drawing(runtime)
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
        sequence = self.scheduler.add(job)
        for token in job.prompt[len(job.prompt) - job.begun :]:
            sequence.detokenizer.feed(self.runtime.vocabulary.piece(token))
        self._touch(sequence)
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
            self._prefixes.forget(index, FAILED)

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
            placement, reuse = self._prefixes.place(self.scheduler.waiting[0].tokens, placement)
            self._start(self.scheduler.admit(placement), reuse)
            self._queue_changed = True
        if len(self.scheduler.running) > n_running:
            self._prefixes.clear_the_way()
        if self._queue_changed:
            self._queue_changed = False
            self._tell_positions()

    def _bring_back(self) -> bool:
        """Has the prefix that the next job continues in a slot. Says whether anybody waits."""
        waiting = self.scheduler.waiting
        if waiting and self._prefixes.n_in_memory and (placement := self.scheduler.can_admit()):
            self._prefixes.bring_back(waiting[0].tokens, placement)
        return bool(waiting)

    def _start(self, sequence: Sequence, reuse: Reuse) -> None:
        if sequence.sampler is None:
            sequence.sampler = self.runtime.new_sampler(sequence.job.sampling)
        if not sequence.started:
            sequence.started = True
            sequence.outcomes.append(Started(sequence.computed, reuse))
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
                    self._prefixes.forget(slot, FAILED)
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
                self._prefixes.forget(slot, INTERRUPTED)
                sequence.computed = 0

    def _make_room(self) -> None:
        """Frees cells: an idle prefix first, then the sequence that can wait best, which is recomputed later."""
        idle = self.scheduler.slots.oldest_idle()
        if idle is not None:
            self._prefixes.set_aside(idle, CELLS_RAN_OUT)
        elif sequence := self.scheduler.preemptible():
            self.runtime.clear(self.scheduler.preempt(sequence))
        else:
            for sequence in list(self.scheduler.running):
                self._fail(sequence, NoCells("the context has no room for this request alone"))

    def _sample(self, step: Step) -> None:
        for share in step.shares:
            self._drawing.reread(share)
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
        token, likelihoods = self._drawing.draw(sequence, row)
        sequence.tokens.append(token)
        if vocabulary.is_end_of_generation(token):
            self._finish(sequence, "end")
            return
        ids = [token]
        if job.guide is not None:
            job.guide.accept(ids)
            if not job.guide.stop and (forced := self._drawing.forced(sequence)):
                job.guide.accept(forced)
                sequence.tokens.extend(forced)
                ids.extend(forced)
                likelihoods += self._drawing.noted(sequence, forced)
        text = "".join(sequence.detokenizer.feed(vocabulary.piece(token)) for token in ids)
        sequence.outcomes.append(Tokens(tuple(ids), text, likelihoods, sequence.work))
        self._touch(sequence)
        if reason := self._due(sequence):
            self._finish(sequence, reason)

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
        sequence.outcomes.append(Finished(reason, sequence.n_generated, sequence.work))

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._leave(sequence)
        sequence.outcomes.append(Failed(error))

    def _leave(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence)
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None
        self._touch(sequence)

    def _tell_positions(self) -> None:
        for position, sequence in enumerate(self.scheduler.waiting):
            sequence.outcomes.append(Progress(position + 1, 0, len(sequence.tokens)))
            self._touch(sequence)

    def _tell_prefill(self, sequence: Sequence) -> None:
        sequence.outcomes.append(Progress(0, sequence.computed, len(sequence.tokens)))
        self._touch(sequence)

    def _touch(self, sequence: Sequence) -> None:
        self._touched[sequence.order] = sequence
