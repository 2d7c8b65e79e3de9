"""Ends the streams that an interrupted cell leaves open.

`for event in client.messages.create(stream=True)` has no `with`: interrupted between two events, the stream stays open
in a variable or in the traceback, and the model would go on for nobody. IPython's own event tells when a cell has
ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import Any


class OpenStreams:
    """Those of the cells of this process. A stream has `close()`, or `aclose()` to be awaited."""

    def __init__(self) -> None:
        self._open: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._watching = False

    def add(self, stream: Any) -> None:
        """Notes a stream that is opened now. One of another thread is not the cell's."""
        if threading.current_thread() is threading.main_thread() and self._watch():
            # A blocking one is the cell's own, in whatever task the kernel runs the cell.
            self._open[stream] = asyncio.current_task() if hasattr(stream, "aclose") else None

    def _watch(self) -> bool:
        if not self._watching:
            from IPython.core.getipython import get_ipython

            shell = get_ipython()
            if shell is not None:
                shell.events.register("post_run_cell", self._cell_ended)
                self._watching = True
        return self._watching

    def _cell_ended(self, result: Any = None) -> None:
        error = getattr(result, "error_in_exec", None)
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self.close()
        elif error is None:
            # What a cell has left open on purpose, for the next one.
            self._open.clear()

    def close(self) -> None:
        """Ends all of them but those of tasks that go on in the background."""
        for stream, task in list(self._open.items()):
            if task is None or task.done():
                with contextlib.suppress(Exception):
                    _end(stream)
        self._open.clear()


def _end(stream: Any) -> None:
    if hasattr(stream, "aclose"):
        # The task is kept by the loop until it is done; a socket closes in one step.
        asyncio.get_running_loop().create_task(stream.aclose())
    else:
        stream.close()


open_streams = OpenStreams()
"""The ones of this process."""
