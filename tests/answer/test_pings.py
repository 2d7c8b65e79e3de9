"""A client that waits is told so: while the prompt is read, and while nothing new is said."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable

import pytest

from nbllama.answer import answer_request
from nbllama.answer.service import Service
from nbllama.engine.scripted_runtime import Script
from nbllama.wire.events import ContentBlockDelta, Event, MessageStart, Ping
from tests.answer.test_counting_beside_a_stream import SteppedRuntime
from tests.answer.test_service import body, run, script, serving, stop_reason

__all__ = ["script"]

PINGS = 5


def test_no_silence_is_longer_than_what_proxies_and_clients_bear() -> None:
    assert answer_request.PROGRESS_SECONDS <= answer_request.PING_SECONDS <= 10


async def pings(events: AsyncIterator[Event]) -> list[Ping]:
    """The next events, which must all be pings."""
    found = [await anext(events) for _ in range(PINGS)]
    assert all(isinstance(event, Ping) for event in found), found
    return [event for event in found if isinstance(event, Ping)]


def test_prefill_and_silence_are_filled_with_pings(script: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_request, "PING_SECONDS", 0.01)
    monkeypatch.setattr(answer_request, "PROGRESS_SECONDS", 0.01)
    runtime = SteppedRuntime(Script.parse({"rules": [{"answer": "one two three"}]}, name="stepped"))

    async def check() -> None:
        async with serving(script(), load=lambda *_: runtime) as service:
            await (await service.messages(body(max_tokens=0), client="a", request_id="req_0")).message()
            runtime.steps = threading.Semaphore(0)
            runtime.held.set()
            try:
                await check_waiting(service)
            finally:
                runtime.let_go()

    async def check_waiting(service: Service) -> None:
        answer = await service.messages(body("new", stream=True), client="b", request_id="req_1")
        events = answer.events()

        assert isinstance(await anext(events), MessageStart)
        await pings(events)
        runtime.steps.release(2)
        event = await anext(events)
        while not isinstance(event, ContentBlockDelta):
            event = await anext(events)
        # The second word may be here already.
        while not isinstance(event, Ping):
            event = await anext(events)
        assert [ping.data() for ping in await pings(events)] == [{"type": "ping"}] * PINGS
        runtime.let_go()
        assert stop_reason([event async for event in events]) == "end_turn"

    run(check())
