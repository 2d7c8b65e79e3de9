"""When the worker decides to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nbllama.wire.errors import Overloaded
from nbllama.worker.lifecycle import Lifecycle

# Long enough that nothing fires by accident while a test holds something open.
SOON, NEVER = 0.02, 60.0


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_it_ends_when_nobody_comes() -> None:
    async def test() -> None:
        lifecycle = Lifecycle(idle_exit=SOON)
        lifecycle.start()
        await lifecycle.stopping.wait()

    run(test)


def test_it_stays_while_someone_is_there() -> None:
    async def test() -> None:
        lifecycle = Lifecycle(idle_exit=SOON)
        lifecycle.start()
        with lifecycle.attachment(), lifecycle.request():
            await asyncio.sleep(5 * SOON)
            assert not lifecycle.stopping.is_set()
        await lifecycle.stopping.wait()

    run(test)


def test_a_request_alone_keeps_it() -> None:
    async def test() -> None:
        lifecycle = Lifecycle(idle_exit=SOON)
        lifecycle.start()
        with lifecycle.request():
            with lifecycle.attachment():
                pass
            await asyncio.sleep(5 * SOON)
            assert not lifecycle.stopping.is_set()

    run(test)


def test_never_means_never() -> None:
    async def test() -> None:
        lifecycle = Lifecycle(idle_exit=None)
        lifecycle.start()
        with lifecycle.attachment():
            pass
        await asyncio.sleep(5 * SOON)
        assert not lifecycle.stopping.is_set()

    run(test)


def test_stopping_is_told_once_and_refuses() -> None:
    async def test() -> None:
        told: list[bool] = []
        lifecycle = Lifecycle(idle_exit=NEVER, on_stop=lambda: told.append(True))
        lifecycle.stop()
        lifecycle.stop()
        assert told == [True]
        for enter in (lifecycle.request, lifecycle.attachment):
            with pytest.raises(Overloaded), enter():
                pass
        assert lifecycle.idle

    run(test)


def test_quiet_waits_for_what_runs() -> None:
    async def test() -> None:
        lifecycle = Lifecycle(idle_exit=None)
        with lifecycle.request():
            assert not await lifecycle.wait_quiet(SOON)
        assert await lifecycle.wait_quiet(NEVER)

    run(test)


def test_idle_models_are_told_even_with_someone_attached() -> None:
    async def test() -> None:
        idle = asyncio.Event()
        lifecycle = Lifecycle(idle_exit=None, idle_unload=SOON, on_idle=idle.set)
        with lifecycle.attachment():
            await idle.wait()

    run(test)
