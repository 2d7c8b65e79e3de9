"""The one thread that owns the models: inbox → step → outbox.

Any thread may call `submit`, `cancel`, `add_model`, `remove_model` and `close`; they only put a message into the inbox.
Everything else, every call into a runtime above all, happens in the engine thread. What a step produced goes to
`dispatch` once, however many sequences took part: a wake-up of the event loop costs more than a token.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from nbllama.engine.errors import EngineError, EngineStopped, PromptTooLong, QueueFull
from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Started
from nbllama.engine.lane import Lane
from nbllama.engine.retry_after import REMEMBERED, seconds_until_turn
from nbllama.engine.runtime import Runtime

log = logging.getLogger(__name__)

Delivery = tuple[Job, list[Outcome]]
# What a small model writes within this time goes out together: 2,000 tokens/s one by one keep two event loops busy with
# nothing else. No reader can tell, and a display is drawn ten times a second.
SECONDS_TOGETHER = 0.004

Dispatch = Callable[[list[Delivery]], None]


def deliver_directly(deliveries: list[Delivery]) -> None:
    """The simplest dispatch: each job's own `deliver`, in the engine thread. One that breaks harms no other."""
    for job, outcomes in deliveries:
        try:
            job.deliver(outcomes)
        except Exception:
            log.exception("nobody took what happened to %s", job.id)


@dataclass(slots=True)
class _Model:
    """What other threads may know of a lane, under the loop's lock: its jobs, and the seconds that jobs lately ran."""

    lane: Lane
    jobs: set[str] = field(default_factory=set)
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    started: dict[str, float] = field(default_factory=dict)
    handed_out: float = 0.0


class EngineLoop:
    """Runs all models' lanes in turn. `max_waiting` bounds the jobs of a model beyond those that can run at once.

    `cache_bytes` bounds, for each model, the prefixes that wait in memory outside the model's own cells."""

    def __init__(self, *, max_waiting: int = 256, cache_bytes: int = 0, dispatch: Dispatch = deliver_directly) -> None:
        self._max_waiting = max_waiting
        self._cache_bytes = cache_bytes
        self._dispatch = dispatch
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="nbllama-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add_model(self, name: str, runtime: Runtime) -> None:
        """Takes over a loaded runtime; from here on only the engine thread touches it. A closed loop frees it."""
        with self._lock:
            if self._closing:
                runtime.close()
            else:
                self._models[name] = _Model(Lane(runtime, cache_bytes=self._cache_bytes))

    def remove_model(self, name: str, done: Callable[[], None] = lambda: None) -> None:
        """Ends the model's jobs, frees its memory, then calls `done` in the engine thread.

        A loop that is closing does the first two by itself, and `done` is called at once.
        """
        with self._lock:
            if not self._closing:
                if model := self._models.pop(name, None):
                    model.lane.in_flight.stop()
                self._inbox.put(lambda: self._remove(model, done))
                return
        done()

    def submit(self, name: str, job: Job) -> None:
        """Accepts a job, which will end in exactly one Finished or Failed.

        Raises before any work: PromptTooLong, QueueFull, EngineStopped (no such model, or the loop is closing), and
        EngineError for a prompt without tokens, which has no logits to draw from.
        """
        if not job.prompt:
            raise EngineError("the prompt is empty")
        with self._lock:
            model = self._models.get(name)
            if model is None or self._closing:
                raise EngineStopped("the model is not loaded" if not self._closing else "the server is stopping")
            info = model.lane.runtime.info
            # One token must fit behind the prompt.
            if len(job.prompt) >= info.n_ctx:
                raise PromptTooLong(len(job.prompt), info.n_ctx - 1)
            waiting = len(model.jobs) - info.max_sequences
            if waiting >= self._max_waiting:
                raise QueueFull(
                    waiting, seconds_until_turn(model.durations, n_ahead=waiting, n_slots=info.max_sequences)
                )
            model.jobs.add(job.id)
            # Under the lock: after a `remove_model` or the end of the thread nobody would take it out.
            self._inbox.put(lambda: model.lane.add(job))

    def cancel(self, name: str, job_id: str) -> None:
        """Ends a job as `cancelled`. Nothing happens if it has ended already.

        A step that nobody else is in is interrupted; beside others it takes effect when their step has ended.
        """
        with self._lock:
            if model := self._models.get(name):
                model.lane.in_flight.cancel(job_id)
                self._inbox.put(lambda: self._cancel(model, job_id))

    def n_jobs(self, name: str) -> tuple[int, int]:
        """(running, waiting) jobs of a model, as far as other threads can know."""
        with self._lock:
            model = self._models.get(name)
            if model is None:
                return (0, 0)
            n_jobs, n_slots = len(model.jobs), model.lane.runtime.info.max_sequences
            return (min(n_jobs, n_slots), max(0, n_jobs - n_slots))

    def check_integrity(self, timeout: float = 10.0) -> None:
        """Checks every lane's books between two steps. Raises IntegrityError, or TimeoutError if the thread hangs."""
        answer: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def check() -> None:
            try:
                for model in list(self._models.values()):
                    model.lane.scheduler.check_integrity()
                answer.put(None)
            except Exception as error:  # carried to the thread that asked
                answer.put(error)

        self._inbox.put(check)
        try:
            error = answer.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("the engine thread does not answer") from None
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends every job with EngineStopped, frees the models, and waits for the thread."""
        with self._lock:
            self._closing = True
            for model in self._models.values():
                model.lane.in_flight.stop()
        self._inbox.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            self._take_messages(wait=not any(model.lane.has_work for model in list(self._models.values())))
            for model in list(self._models.values()):
                self._step(model)
        self._take_messages(wait=False)
        for model in list(self._models.values()):
            self._free(model, "the server is stopping")

    def _cancel(self, model: _Model, job_id: str) -> None:
        model.lane.cancel(job_id)
        # Told before the neighbours' next step, which may take a while.
        self._hand_out(model)

    def _remove(self, model: _Model | None, done: Callable[[], None]) -> None:
        if model is not None:
            self._free(model, "the model was unloaded")
        done()

    def _free(self, model: _Model, reason: str) -> None:
        self._safely(lambda: model.lane.close(reason))
        self._hand_out(model)

    def _take_messages(self, *, wait: bool) -> None:
        if wait:
            self._safely(self._inbox.get())
        while True:
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._safely(message)

    def _step(self, model: _Model) -> None:
        if not model.lane.only_decodes:
            # This step may last; what is there already does not wait for it.
            self._hand_out(model)
        if not self._safely(model.lane.step):
            self._safely(model.lane.reset)
        now = time.monotonic()
        if now - model.handed_out >= SECONDS_TOGETHER or not model.lane.has_work:
            model.handed_out = now
            self._hand_out(model)

    def _safely(self, work: Callable[[], None]) -> bool:
        """A bug of ours, or of who receives, must not end the thread: every other request would wait forever."""
        try:
            work()
        except Exception:
            log.exception("the engine failed")
            return False
        return True

    def _hand_out(self, model: _Model) -> None:
        deliveries: list[Delivery] = []
        ended: list[str] = []
        for sequence in model.lane.collect():
            if not sequence.outcomes:
                continue
            outcomes, sequence.outcomes = sequence.outcomes, []
            deliveries.append((sequence.job, outcomes))
            if any(isinstance(outcome, Started) for outcome in outcomes):
                model.started[sequence.job.id] = time.monotonic()
            if isinstance(outcomes[-1], Finished | Failed):
                ended.append(sequence.job.id)
        if ended:
            self._note_ends(model, ended)
        if deliveries:
            self._safely(lambda: self._dispatch(deliveries))

    def _note_ends(self, model: _Model, ended: list[str]) -> None:
        now = time.monotonic()
        # One that never ran says nothing about how long a slot is taken.
        ran = [now - began for id in ended if (began := model.started.pop(id, None)) is not None]
        with self._lock:
            model.jobs.difference_update(ended)
            model.durations.extend(ran)
