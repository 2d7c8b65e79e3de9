"""Runs async functions from code that blocks, while the kernel's own event loop runs or not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable
from typing import Any

TICK = 0.1
"""Seconds between looks whether an interrupt has come: on Windows a wait without an end hears none."""

_SECONDS_TO_TIDY_UP = 2.0


class AsyncTools:
    """An event loop in a thread of its own, started by the first use: all async tools of a run share it.

    The kernel's own loop cannot run them: the cell that waits for them holds it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> AsyncTools:
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).add_done_callback(self._stop)
            self._thread.join(_SECONDS_TO_TIDY_UP)
            # One that does not let itself be cancelled goes on in its thread, which ends with the process.
            if not self._thread.is_alive():
                self._loop.close()

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Its value, or what it raised. An interrupt cancels it."""
        # The context goes with it: what it prints belongs to this cell.
        future = asyncio.run_coroutine_threadsafe(_outcome(awaitable), self._running())
        try:
            while not concurrent.futures.wait([future], TICK).done:
                pass
        except BaseException:
            future.cancel()
            raise
        value, left_by = future.result()
        if left_by is not None:
            raise left_by
        return value

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="nbllama-async-tools")
            self._thread.start()
        return self._loop

    def _stop(self, _: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio would end the loop with it, and nobody would hear of the call again.
        return None, error


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        with contextlib.suppress(Exception):
            await asyncio.wait(tasks, timeout=_SECONDS_TO_TIDY_UP)
