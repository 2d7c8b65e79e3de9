"""When the worker ends: counts who is attached and what runs, and says when it is time.

One event loop; nothing here is called from another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from nbllama.wire.errors import Overloaded

OTHER = "program"
"""What is attached without saying what it is."""


class Lifecycle:
    """`idle_exit`: seconds after the last one left, None = never. `idle_unload`: seconds without a request.

    `on_stop` is called once, before anybody is told that the worker stops; `on_idle` when `idle_unload` has passed."""

    def __init__(
        self,
        *,
        idle_exit: float | None,
        idle_unload: float | None = None,
        on_stop: Callable[[], None] | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.attached_as: Counter[str] = Counter()
        self.running = 0
        self.stopping = asyncio.Event()
        self._quiet = _Flag(True)
        self._alone = _Flag(True)
        self._on_stop = on_stop
        self._exit = _Timer(idle_exit, self.stop)
        self._unload = _Timer(idle_unload, on_idle or _nothing)

    def start(self) -> None:
        """Starts the clock: who started the worker has `idle_exit` seconds to come."""
        self._update()

    @property
    def attached(self) -> int:
        return self.attached_as.total()

    @property
    def idle(self) -> bool:
        return self.attached == 0 and self.running == 0

    @contextlib.contextmanager
    def attachment(self, kind: str = OTHER) -> Iterator[None]:
        """Someone is there, a `kind` of program. Raises Overloaded when the worker is stopping."""
        self._refuse_when_stopping()
        self.attached_as[kind] += 1
        self._update()
        try:
            yield
        finally:
            self.attached_as[kind] -= 1
            self._update()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A request runs. Raises Overloaded when the worker is stopping."""
        self._refuse_when_stopping()
        self.running += 1
        self._update()
        try:
            yield
        finally:
            self.running -= 1
            self._update()

    def stop(self) -> None:
        """From now on nothing new is taken. Idempotent."""
        if self.stopping.is_set():
            return
        if self._on_stop is not None:
            self._on_stop()
        self.stopping.set()

    async def wait_quiet(self, timeout: float) -> bool:
        """Whether all requests ended within `timeout` seconds."""
        return await self._quiet.wait(timeout)

    async def wait_idle(self, timeout: float) -> bool:
        """Whether everybody left within `timeout` seconds."""
        return await self._alone.wait(timeout)

    def _refuse_when_stopping(self) -> None:
        if self.stopping.is_set():
            raise Overloaded("The nbllama worker is stopping", retry_after=1)

    def _update(self) -> None:
        self._exit.set(self.idle)
        self._unload.set(self.running == 0)
        self._quiet.set(self.running == 0)
        self._alone.set(self.idle)


class _Flag:
    """A truth that can be waited for."""

    def __init__(self, on: bool) -> None:
        self._event = asyncio.Event()
        self.set(on)

    def set(self, on: bool) -> None:
        if on:
            self._event.set()
        else:
            self._event.clear()

    async def wait(self, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
        return self._event.is_set()


class _Timer:
    """Calls `action` once `seconds` have passed since it was set and not cleared again."""

    def __init__(self, seconds: float | None, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._handle: asyncio.TimerHandle | None = None

    def set(self, on: bool) -> None:
        if self._handle is not None and not on:
            self._handle.cancel()
            self._handle = None
        if on and self._handle is None and self._seconds is not None:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._action()


def _nothing() -> None:
    pass
