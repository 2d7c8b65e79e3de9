"""A door that closes while it reaches for the worker leaves nobody attached."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

import pytest

from nbllama.wire.errors import Overloaded
from nbllama.worker import connection
from nbllama.worker.connection import Attachment, Endpoint
from nbllama.worker.link import WorkerLink
from tests.worker.conftest import WorkerThread

Ending = Callable[[WorkerLink, "asyncio.Task[Endpoint]"], Awaitable[None]]


async def close(link: WorkerLink, asking: asyncio.Task[Endpoint]) -> None:
    await link.close()


async def cancel(link: WorkerLink, asking: asyncio.Task[Endpoint]) -> None:
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("ending", [close, cancel])
@pytest.mark.parametrize("found", [False, True], ids=["before it attaches", "while it attaches"])
def test_nobody_stays_attached(
    ending: Ending, found: bool, worker: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go, kept = threading.Event(), threading.Event(), list[Attachment]()
    attach = connection.attach

    def wait() -> None:
        reached.set()
        assert go.wait(30)

    def attached(endpoint: Endpoint, kind: str) -> Attachment:
        if found:
            wait()
        kept.append(attach(endpoint, kind))
        return kept[-1]

    def ensure() -> Endpoint:
        if not found:
            wait()
        return worker.endpoint

    async def check() -> None:
        link = WorkerLink(ensure, kind="serve")
        asking = asyncio.ensure_future(link.endpoint())
        await asyncio.to_thread(reached.wait, 30)
        await ending(link, asking)
        go.set()
        with contextlib.suppress(Overloaded, asyncio.CancelledError):
            await asking
        # A door that is closed does not even begin to attach.
        n_attached = 0 if ending is close and not found else 1
        await asyncio.to_thread(worker.wait_until, lambda: [one.alive for one in kept] == [False] * n_attached)
        await asyncio.to_thread(worker.wait_until, lambda: worker.lifecycle.attached == 0)

    monkeypatch.setattr(connection, "attach", attached)
    asyncio.run(check())
