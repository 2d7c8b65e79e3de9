"""The official SDK, 1.x or 2.x, against a real door, worker and model; every answer is strictly validated."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest

from tests.serve_process import TOKEN, Door

WEATHER: Any = {
    "name": "get_weather",
    "description": "Get current weather for a location",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "City name"}},
        "required": ["location"],
    },
}
HELLO: Any = {"model": "demo", "max_tokens": 200, "messages": [{"role": "user", "content": "Hello!"}]}
STRICT: Any = {"_strict_response_validation": True, "max_retries": 0}


@pytest.fixture(scope="module")
def client(door: Door) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=door.url, api_key=TOKEN, **STRICT)


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_create(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**HELLO)

    assert "Hello" in text_of(message)
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    assert message._request_id and message._request_id.startswith("req_")


def test_stream_is_the_same_message(slow_door: Door) -> None:
    client = anthropic.Anthropic(base_url=slow_door.url, api_key=TOKEN, **STRICT)
    created = client.messages.create(**HELLO)
    with client.messages.stream(**HELLO) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()

    assert len(pieces) > 1
    assert "".join(pieces) == text_of(streamed) == text_of(created)
    assert streamed.usage.output_tokens == created.usage.output_tokens


def test_raw_events_come_in_order(client: anthropic.Anthropic) -> None:
    names = [event.type for event in client.messages.create(**HELLO, stream=True)]

    assert [name for name in names if name != "content_block_delta" and name != "ping"] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_count_tokens_is_what_the_answer_used(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="demo", messages=HELLO["messages"])
    usage = client.messages.create(**HELLO).usage

    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_models(client: anthropic.Anthropic) -> None:
    ids = [model.id for model in client.models.list()]

    assert ids == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")


def test_a_hand_written_tool_loop(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked = client.messages.create(model="demo", max_tokens=300, messages=messages, tools=[WEATHER])
    call = next(block for block in asked.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps({"temperature": 18, "sky": "sunny"})}
    messages += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answered = client.messages.create(model="demo", max_tokens=300, messages=messages, tools=[WEATHER])

    assert asked.stop_reason == "tool_use"
    assert (call.name, call.input) == ("get_weather", {"location": "Paris"})
    assert text_of(answered)
    assert answered.usage.cache_read_input_tokens


def test_errors_are_the_sdks_own_classes(client: anthropic.Anthropic, door: Door) -> None:
    with pytest.raises(anthropic.BadRequestError, match="at least one message is required") as refused:
        client.messages.create(model="demo", max_tokens=5, messages=[])
    assert refused.value.request_id and refused.value.request_id.startswith("req_")

    stranger = anthropic.Anthropic(base_url=door.url, api_key="wrong", **STRICT)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(**HELLO)

    long = "word " * 20_000
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > \d+ maximum"):
        client.messages.create(model="demo", max_tokens=5, messages=[{"role": "user", "content": long}])


def test_an_unknown_model_is_answered_by_the_default(client: anthropic.Anthropic) -> None:
    answer = client.messages.with_raw_response.create(**(HELLO | {"model": "claude-of-tomorrow"}))

    assert answer.headers["nbllama-model"] == "demo"
    assert answer.parse().model == "claude-of-tomorrow"


def test_async_ten_at_once(door: Door) -> None:
    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=door.url, api_key=TOKEN, **STRICT) as client:

            async def one(stream: bool) -> str:
                if not stream:
                    return text_of(await client.messages.create(**HELLO))
                async with client.messages.stream(**HELLO) as stream_:
                    return text_of(await stream_.get_final_message())

            return await asyncio.gather(*(one(i % 2 == 0) for i in range(10)))

    texts = asyncio.run(ask())

    assert len(texts) == 10
    assert all("Hello" in text for text in texts)
