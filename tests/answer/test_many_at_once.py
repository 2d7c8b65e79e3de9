"""Two hundred requests at once on a real model: each ends once, nothing is left, and who is too many is told so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from nbllama.answer.service import Service
from nbllama.wire.errors import Overloaded
from nbllama.wire.events import ContentBlockDelta
from tests.answer.test_service import body, collect, run, script, serving, terminal

__all__ = ["script"]

N_REQUESTS = 200
N_SLOTS = 16
"""Sequences of a llama.cpp model at once, `LlamaOptions.max_sequences`."""


def wish(n: int) -> dict[str, Any]:
    """The n-th request: of every kind some, with beginnings in common and without."""
    fields: dict[str, Any] = {"max_tokens": 8 + n % 17, "temperature": 1.0, "nbllama": {"seed": n}}
    if n % 5 == 0:
        fields["stop_sequences"] = ["a", "e", "is"]
    if n % 7 == 0:
        fields["system"] = f"You are guide number {n}. " + "Be brief. " * (n % 40)
    return fields


def kind(n: int) -> str:
    return "leaves" if n % 10 == 3 else "stream" if n % 2 == 0 else "whole"


async def request(service: Service, n: int) -> str:
    """Plays the n-th client; how its request ended for it."""
    stream = kind(n) != "whole"
    sent = body(f"Hello number {n}", stream=stream, **wish(n))
    try:
        answer = await service.messages(sent, client=f"c{n % 4}", request_id=f"r{n}")
    except Overloaded as refused:
        assert refused.status == 529
        assert float(refused.headers()["retry-after"]) >= 1
        return "refused"
    if kind(n) == "whole":
        message = await answer.message()
        assert message["usage"]["output_tokens"] <= wish(n)["max_tokens"]
        return "ended"
    if kind(n) == "leaves":
        events = answer.events()
        async for event in events:
            if isinstance(event, ContentBlockDelta):
                break
        await events.aclose()
        return "left"
    terminal(await collect(answer))
    return "ended"


def test_two_hundred_at_once_all_end() -> None:
    async def check() -> None:
        async with serving("demo", trace_count=N_REQUESTS) as service:
            await service.load("demo")
            ended = Counter(await asyncio.gather(*(request(service, n) for n in range(N_REQUESTS))))

            kinds = Counter(kind(n) for n in range(N_REQUESTS))
            assert ended == {"ended": kinds["stream"] + kinds["whole"], "left": kinds["leaves"]}
            for n in range(N_REQUESTS):
                record = service.trace(f"r{n}", f"c{n % 4}")
                # An answer that is over with its first piece has nothing left to leave.
                assert record["error"] is None
                assert record["ending"] != "cancelled" or kind(n) == "leaves"
                assert (record["message"] is None) == (record["ending"] == "cancelled")
            endings = Counter(trace["ending"] for c in range(4) for trace in service.traces(f"c{c}"))
            assert sum(endings.values()) == N_REQUESTS
            assert min(endings[name] for name in ("done", "max_tokens", "stop_sequence", "cancelled")) > 0
            nothing_is_held(service)

    run(check())


def test_who_is_too_many_is_told_to_come_again() -> None:
    async def check() -> None:
        async with serving("demo", max_waiting=50, trace_count=N_REQUESTS) as service:
            await service.load("demo")
            ended = Counter(await asyncio.gather(*(request(service, n) for n in range(N_REQUESTS))))

            refused = ended["refused"]
            assert sum(ended.values()) == N_REQUESTS
            # All ask before the first can have ended, but for those whose prompts were encoded late.
            assert 0 < refused <= N_REQUESTS - N_SLOTS - 50
            errors = Counter((trace["ending"]) for c in range(4) for trace in service.traces(f"c{c}"))
            assert errors["error"] == refused
            nothing_is_held(service)

            assert await request(service, 1) == "ended"

    run(check())


def test_the_queues_limit_is_exact(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"answer": "word " * 2000, "delay_s": 0.01}]
        async with serving(model := script(rules=rules, max_sequences=3), max_waiting=5) as service:
            await service.load(model)
            answers = await asyncio.gather(
                *(service.messages(body(), client="me", request_id=f"r{n}") for n in range(20)), return_exceptions=True
            )
            refused = [one for one in answers if isinstance(one, Overloaded)]
            accepted = [one for one in answers if not isinstance(one, BaseException)]

            assert (len(accepted), len(refused)) == (3 + 5, 12)
            assert all(float(one.headers()["retry-after"]) > 1 for one in refused)
            for answer in accepted:
                answer.cancel()
            ended = await asyncio.gather(*(answer.message() for answer in accepted), return_exceptions=True)
            assert [str(error) for error in ended] == ["the request was cancelled"] * len(accepted)
            nothing_is_held(service)

    run(check())


def nothing_is_held(service: Service) -> None:
    status = service.status()
    assert (status["requests_running"], status["requests_waiting"], status["requests"]) == (0, 0, [])
    service.check_integrity()
    lanes = [model.lane for model in service._engine._models.values()]
    assert all(not lane.scheduler.running and not lane.scheduler.slots.holders() for lane in lanes)
