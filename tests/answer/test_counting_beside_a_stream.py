"""24 counts at once while an answer streams: neither waits for the other, and each count is what is evaluated."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from nbllama.answer.service import Service
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from nbllama.wire.events import ContentBlockDelta, Event
from tests.answer.context_view import N_COUNTS, SYSTEM_TOKENS, bodies
from tests.answer.test_service import body, run, script, serving, stop_reason

__all__ = ["script"]

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


def test_they_answer_while_a_step_is_running(script: Callable[..., str]) -> None:
    runtime = SteppedRuntime(Script.parse({"rules": [{"answer": WORDS}], "n_ctx": 40_000}, name="stepped"))

    async def check() -> None:
        async with serving(script(), load=lambda *_: runtime) as service:
            await create(service, "req_first", {"model": "any", "messages": [{"role": "user", "content": "x"}]})
            # Enough for the prompt and the first words; from here on only counts let it go on.
            runtime.steps = threading.Semaphore(4)
            runtime.held.set()
            events: list[Event] = []
            begun = asyncio.Event()

            async def stream() -> None:
                answer = await service.messages(body(stream=True, max_tokens=4000), client="local", request_id="req_s")
                async for event in answer.events():
                    events.append(event)
                    if isinstance(event, ContentBlockDelta) and not begun.is_set():
                        begun.set()

            async def count(sent: dict[str, Any]) -> int:
                counted = await service.counted(json.dumps(sent).encode(), client="local")
                runtime.steps.release()
                return counted.input_tokens

            streaming = asyncio.create_task(stream())
            await begun.wait()
            n_before = len(events)
            counts = await asyncio.gather(*map(count, bodies()))
            while len(events) <= n_before:
                await asyncio.sleep(0)
            assert not streaming.done()
            runtime.let_go()
            await streaming

            assert stop_reason(events) == "end_turn"
            text = "".join(event.delta["text"] for event in events if isinstance(event, ContentBlockDelta))
            assert text == WORDS
            assert counts == [await create(service, f"req_{n}", sent) for n, sent in enumerate(bodies())]
            assert len(counts) == N_COUNTS
            assert max(counts) > SYSTEM_TOKENS

    run(check())


async def create(service: Service, id: str, sent: dict[str, Any]) -> int:
    """The tokens of the prompt, by the usage of an answer that computes it and says nothing."""
    warm = json.dumps(sent | {"max_tokens": 0}).encode()
    message = await (await service.messages(warm, client="local", request_id=id)).message()
    usage = message["usage"]
    assert usage["output_tokens"] == 0
    return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])
