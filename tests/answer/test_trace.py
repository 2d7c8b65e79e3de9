"""Traces: bounded in number and bytes, one record too; off where they are turned off; every ending is in its record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer.service import Service
from nbllama.answer.trace import TraceStore
from nbllama.wire.errors import ApiError, NotFound
from nbllama.wire.events import ContentBlockDelta
from nbllama.wire.records import TRACES_OFF, RequestRecord
from tests.answer.test_service import ask, body, run, script, serving

__all__ = ["script"]


def record(id: str, *, client: str = "me", **fields: Any) -> RequestRecord:
    return RequestRecord(id, f"msg_{id}", client, "model", 1.8e9, False, **fields)


def test_the_number_of_records_is_bounded() -> None:
    store = TraceStore(max_count=3, max_bytes=1 << 20)
    for i in range(10):
        store.add(record(f"r{i}"))

    assert [summary["id"] for summary in store.summaries("me")] == ["r9", "r8", "r7"]


def test_the_bytes_of_all_records_are_bounded() -> None:
    store = TraceStore(max_count=1000, max_bytes=100_000)
    for i in range(50):
        store.add(record(f"r{i}", output_text="x" * 10_000))
        assert store.n_bytes <= 100_000

    kept = [summary["id"] for summary in store.summaries("me")]
    assert kept[0] == "r49"
    assert 5 < len(kept) < 10


@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        ({"prompt": "x" * 200_000, "request": {"a": 1}, "output_text": "fine"}, {"request": {"a": 1}}),
        ({"prompt_ids": list(range(100_000)), "output_text": "fine"}, {"output_text": "fine"}),
        ({"request": {"a": "x" * 200_000}}, {"ending": "done"}),
        ({"events": [[0.1, {"text": "x" * 100}]] * 2000}, {"ending": "done"}),
        ({"parser_steps": [{"start": 1, "end": 2}] * 5000}, {"ending": "done"}),
        ({"spans": [{"start": 1, "end": 2}] * 5000, "prompt_ids": [1, 2]}, {"ending": "done"}),
    ],
)
def test_one_record_larger_than_its_share_is_cut_and_says_so(fields: dict[str, Any], stays: dict[str, Any]) -> None:
    store = TraceStore(max_count=10, max_bytes=100_000)
    store.add(record("small"))
    store.add(record("large", ending="done", **fields))

    kept = store.get("large", "me")
    assert len(json.dumps(kept)) <= 25_000
    assert any("too large" in warning for warning in kept["warnings"])
    assert {name: kept[name] for name in stays} == stays
    assert store.get("small", "me")["warnings"] == []


def test_one_that_cannot_be_cut_is_not_kept() -> None:
    store = TraceStore(max_count=10, max_bytes=100_000)
    store.add(record("small"))
    store.add(record("large", ignored=["x" * 100_000]))

    assert [summary["id"] for summary in store.summaries("me")] == ["small"]


def test_a_record_reads_as_it_was_written() -> None:
    store = TraceStore(max_count=10, max_bytes=1 << 20)
    written = record("r", prompt="é\ud83e", prompt_ids=[1, 2], events=[[0.5, {"type": "ping"}]])
    store.add(written)

    assert store.get("msg_r", "me") == written.to_dict()


def test_another_clients_record_is_as_unknown_as_none() -> None:
    store = TraceStore(max_count=10, max_bytes=1 << 20)
    store.add(record("theirs", client="you"))

    said = []
    for id in ("theirs", "msg_theirs", "nobodys"):
        with pytest.raises(NotFound) as refused:
            store.get(id, "me")
        said.append(str(refused.value).replace(id, "ID"))
    assert len(set(said)) == 1


def test_turned_off_nothing_is_kept_and_it_is_said(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(), trace_count=0) as service:
            answer = await service.messages(body(), client="local", request_id="req_1")
            assert answer._recorder.record.request == {}
            await answer.message()

            assert service.traces("local") == []
            with pytest.raises(NotFound, match=TRACES_OFF):
                service.trace("req_1", "local")

    run(check())


def test_a_request_of_many_megabytes_is_not_kept_even_while_it_runs(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(model := script(n_ctx=1000), trace_bytes=1 << 20) as service:
            await service.load(model)
            with pytest.raises(ApiError, match="prompt is too long"):
                await service.messages(body("word " * 1_000_000), client="local", request_id="req_1")
            kept = service.trace("req_1", "local")

            assert len(json.dumps(kept)) < 1 << 18
            assert kept["request"] == {"max_tokens": 256}
            assert kept["ending"] == "error"
            assert kept["error"]["type"] == "invalid_request_error"
            assert kept["warnings"]

    run(check())


RULES: list[dict[str, Any]] = [
    {"when": "hello", "answer": "one two three"},
    {"when": "call", "answer": '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'},
    {"when": "break", "answer": "one two three four", "fail_after": 2},
    {"when": "long", "answer": "word " * 5000, "delay_s": 0.001},
]
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("text", "fields", "ending"),
    [
        ("hello", {}, "done"),
        ("hello", {"max_tokens": 1}, "max_tokens"),
        ("hello", {"stop_sequences": ["two"]}, "stop_sequence"),
        ("call", {"tools": [TOOL]}, "tool_use"),
        ("long", {"max_tokens": 4000}, "context"),
    ],
)
def test_a_good_ending_is_in_the_record(
    script: Callable[..., str], stream: bool, text: str, fields: dict[str, Any], ending: str
) -> None:
    async def check() -> None:
        rules = [rule | {"delay_s": 0} for rule in RULES]
        async with serving(script(rules=rules, n_ctx=200)) as service:
            await ask(service, text, stream=stream, **fields)
            kept = service.trace("req_1", "local")

            assert (kept["ending"], kept["error"]) == (ending, None)
            assert kept["message"]["content"] or ending == "max_tokens"

    run(check())


async def failing(service: Service, text: str, **fields: Any) -> tuple[str, str]:
    with pytest.raises(ApiError) as failed:
        answer = await service.messages(body(text, **fields), client="local", request_id="req_1")
        await answer.message()
    kept = service.trace("req_1", "local")
    assert kept["error"]["message"] == failed.value.message
    return kept["ending"], kept["error"]["type"]


def test_a_failure_and_a_refusal_are_in_the_record(script: Callable[..., str], tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(model := script(rules=RULES, n_ctx=200)) as service:
            await service.load(model)
            assert await failing(service, "break") == ("error", "api_error")
            assert await failing(service, "word " * 500) == ("error", "invalid_request_error")
            picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
            messages = [{"role": "user", "content": [picture]}]
            assert await failing(service, "", messages=messages) == ("error", "invalid_request_error")
        async with serving(script(max_sequences=1, rules=RULES), max_waiting=0) as service:
            first = await service.messages(body("long", stream=True), client="local", request_id="first")
            events = first.events()
            async for event in events:
                if isinstance(event, ContentBlockDelta):
                    break
            assert await failing(service, "hello") == ("error", "overloaded_error")
            await events.aclose()
            assert service.trace("first", "local")["ending"] == "cancelled"

    run(check())


def test_a_load_that_fails_is_in_the_record(tmp_path: Path) -> None:
    async def check() -> None:
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"GGUF" + bytes(64))
        async with serving(str(broken)) as service:
            assert await failing(service, "hello") == ("error", "api_error")
            await ask(service, id="req_2", stream=True)
            kept = service.trace("req_2", "local")
            assert (kept["ending"], kept["error"]["type"]) == ("error", "api_error")

    run(check())


def test_a_client_that_goes_while_its_request_is_prepared_is_in_the_record(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script()) as service:
            asking = asyncio.create_task(service.messages(body(), client="local", request_id="req_1"))
            while not service.status()["requests_running"]:
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            kept = service.trace("req_1", "local")

            assert (kept["ending"], kept["error"], kept["message"]) == ("cancelled", None, None)

    run(check())
