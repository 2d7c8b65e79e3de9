"""A client that waits is told so: while the prompt is read, and while nothing new is said."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from nbllama.answer import answer_request
from nbllama.answer.service import Service
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from nbllama.wire.events import ContentBlockDelta, Event, MessageStart, Ping
from tests.answer.test_service import body, run, script, serving, stop_reason

__all__ = ["script"]

PINGS = 5
STEPS = 20
"""More than a short prompt needs, however small its pieces are on a busy machine; fewer than the answer has."""

WORDS = " ".join(f"w{chr(97 + n % 26)}" for n in range(200))


class SteppedRuntime(ScriptedRuntime):
    """While it is held, each step waits until it may be done."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.held = threading.Event()
        self.steps = threading.Semaphore(0)

    def decode(self, rows: Sequence[Row]) -> None:
        if self.held.is_set():
            assert self.steps.acquire(timeout=60)
        super().decode(rows)

    def let_go(self) -> None:
        self.held.clear()
        self.steps.release(10_000)


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
    runtime = SteppedRuntime(Script.parse({"rules": [{"answer": WORDS}]}, name="stepped"))

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
        answer = await service.messages(body("new", stream=True, max_tokens=4000), client="b", request_id="req_1")
        events = answer.events()

        assert isinstance(await anext(events), MessageStart)
        await pings(events)
        runtime.steps.release(STEPS)
        event = await anext(events)
        while not isinstance(event, ContentBlockDelta):
            event = await anext(events)
        # Words that were let through come first.
        silent: list[Ping] = []
        while len(silent) < PINGS:
            event = await anext(events)
            silent = [*silent, event] if isinstance(event, Ping) else []
        assert [ping.data() for ping in silent] == [{"type": "ping"}] * PINGS
        runtime.let_go()
        assert stop_reason([event async for event in events]) == "end_turn"

    run(check())
