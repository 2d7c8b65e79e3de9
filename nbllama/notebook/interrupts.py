"""The stop button and Ctrl-C, while a cell waits for a model.

What a kernel raises: KeyboardInterrupt in an ordinary cell, asyncio.CancelledError in a cell with a top-level `await`
(ipykernel cancels the cell's task). Both stop "Run all".
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from types import FrameType
from typing import Any

TICK = 0.1
"""Seconds until an interrupt of an awaiting cell is seen."""


SAME_PRESS = 1.0
"""Seconds in which a second interrupt counts as the first."""


class Awake:
    """Inside, the running event loop wakes ten times a second.

    ipykernel's handler asks the loop to cancel the cell without waking it (tornado's `add_callback` does that only for
    other threads): an `await` to which no byte comes would not be interrupted before one does."""

    def __enter__(self) -> Awake:
        self._loop = asyncio.get_running_loop()
        self._tick()
        return self

    def __exit__(self, *_: object) -> None:
        self._next.cancel()

    def _tick(self) -> None:
        self._next = self._loop.call_later(TICK, self._tick)


class Interrupts:
    """Inside, an interrupt raises KeyboardInterrupt at once; with `held`, it is dropped, for whoever ends already.

    While a cell with `await` runs, ipykernel's own handler only asks the event loop to cancel the cell. Code that
    blocks this loop would see that after its answer had ended. Outside the main thread, and where interrupts are
    ignored, nothing changes."""

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self._before: Any = None
        self._raised = -SAME_PRESS

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        # A stream may be closed late, or by another thread: then the handler is someone else's already.
        if self._before is not None and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) == self._interrupted:
                signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        # The next ones of an impatient user must not break into what the first one cleans up. Not for ever: the first
        # may have been lost in a `__del__`.
        if self.held or now - self._raised < SAME_PRESS:
            return
        self._raised = now
        raise KeyboardInterrupt
