"""Whose tokens are in the step that runs now, so that a step which nobody wants any more is interrupted.

Everything is under one lock: a cancel that comes between two steps finds nobody in flight and interrupts nothing, and
one that comes within a step cannot outlive it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator


class InFlight:
    """Who is in the running step and not cancelled yet. `interrupt` is the runtime's."""

    def __init__(self, interrupt: Callable[[bool], None]) -> None:
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._cancelled: set[str] = set()
        self._stopped = False

    @contextlib.contextmanager
    def step(self, job_ids: Iterable[str]) -> Iterator[bool]:
        """The time of a step of these jobs. Gives whether anybody wants it still; engine thread only."""
        with self._lock:
            self._wanted = set() if self._stopped else set(job_ids) - self._cancelled
            wanted = bool(self._wanted)
        try:
            yield wanted
        finally:
            with self._lock:
                self._wanted = set()
                self._interrupt(False)

    def cancel(self, job_id: str) -> None:
        """Marks a job as cancelled until `forget`, and interrupts the running step if it was the last in it.

        Any thread. The engine thread must hear of the job afterwards, or it is never forgotten."""
        with self._lock:
            self._cancelled.add(job_id)
            if job_id in self._wanted:
                self._wanted.discard(job_id)
                if not self._wanted:
                    self._interrupt(True)

    def stop(self) -> None:
        """For ever: interrupts the running step, and nobody wants another. Any thread."""
        with self._lock:
            self._stopped = True
            if self._wanted:
                self._interrupt(True)

    def forget(self, job_id: str) -> None:
        """The engine thread has taken the job out."""
        with self._lock:
            self._cancelled.discard(job_id)
