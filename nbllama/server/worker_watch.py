"""What the extension knows of the worker without asking it now: read by the activity settings and by /metrics.

The worker is asked every few seconds, in a thread; none is ever started, and a scrape waits for nobody. Kernels speak
to the worker by themselves, so only it knows how much there is to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.worker import connection

INTERVAL = 5.0
"""Seconds between two looks."""

NOTHING_RUNS: dict[str, Any] = {
    "pid": None,
    "models": [],
    "requests_total": 0,
    "requests_running": 0,
    "requests_waiting": 0,
}


def worker_status() -> dict[str, Any]:
    """The status of this user's worker, NOTHING_RUNS if there is none. Blocks. Raises NbllamaError."""
    endpoint = connection.find()
    return NOTHING_RUNS if endpoint is None else connection.request_json(endpoint, "GET", "/nbllama/status", timeout=5)


class WorkerWatch:
    """Keeps the last status. `on_activity` is called for each look that found work or finds that some was done."""

    def __init__(self, on_activity: Callable[[], None]) -> None:
        self.status = NOTHING_RUNS
        self._on_activity = on_activity
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the worker was answering somebody at the last look."""
        return bool(self.status.get("requests_running"))

    def start(self) -> None:
        """Looks every INTERVAL seconds from now on. In a running event loop."""
        self._task = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, status: dict[str, Any]) -> None:
        """A newer status."""
        before, self.status = self.status, status
        same_worker = before["pid"] == status["pid"]
        # A worker that was there before this server has work behind it that nobody here has seen.
        done = status["requests_total"] - before["requests_total"] if same_worker else 0
        if self.busy or done:
            self._on_activity()

    async def _watch(self) -> None:
        while True:
            try:
                self.take(await asyncio.to_thread(worker_status))
            except NbllamaError:
                # It ends just now, or a foreign file is in its place, which a request would say.
                self.take(NOTHING_RUNS)
            await asyncio.sleep(INTERVAL)
