"""A real model with its adapter, and its base beside it: `nbllama models get smollm2` comes first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nbllama.answer.published_models import SMOLLM2
from tests.serve_process import Door, serving

WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather for a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Door]:
    with serving("smollm2") as door:
        yield door


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def test_it_answers_a_question_in_english(smollm2: Door) -> None:
    question = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
    message = smollm2.message(messages=[question])
    assert "Paris" in text_of(message)
    assert message["stop_reason"] == "end_turn"


def test_it_calls_a_tool_and_answers_from_the_result(smollm2: Door) -> None:
    message = smollm2.message(messages=[QUESTION], tools=[WEATHER])
    assert message["stop_reason"] == "tool_use"
    (call,) = message["content"]
    assert (call["name"], call["input"]) == ("get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": '{"temperature": 18, "sky": "cloudy"}'}
    turns = [QUESTION, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    answer = text_of(smollm2.message(messages=turns, tools=[WEATHER]))
    assert "18" in answer and "cloudy" in answer


def test_it_thinks_when_it_is_asked_to(smollm2: Door) -> None:
    message = smollm2.message(messages=[QUESTION], tools=[WEATHER], thinking={"type": "adaptive"})
    thinking, call = message["content"]
    assert thinking["type"] == "thinking" and "Paris" in thinking["thinking"]
    assert call["input"] == {"city": "Paris"}


def test_what_is_told_of_it(smollm2: Door) -> None:
    assert SMOLLM2.adapter is not None
    info = smollm2.request("/v1/models/smollm2")
    assert info["nbllama"]["adapter"] == SMOLLM2.adapter.facts()
    assert info["capabilities"]["thinking"]["supported"] is True


def test_the_base_alone_is_a_model_beside_it(smollm2: Door) -> None:
    """Without the adapter, and with the template that it was published with: its own system prompt is longer."""
    smollm2.request("/nbllama/load", {"model": "smollm2:base"})
    question = {"role": "user", "content": "Hello"}
    sizes = [
        smollm2.request("/v1/messages/count_tokens", {"model": model, "messages": [question]})["input_tokens"]
        for model in ("smollm2", "smollm2:base")
    ]
    assert sizes[1] > sizes[0] + 10
    message = smollm2.message(model="smollm2:base", messages=[question], max_tokens=8)
    assert message["usage"]["cache_read_input_tokens"] == 0


def test_it_remembers_what_was_said(smollm2: Door) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Nice to meet you, Ada!"},
        {"role": "user", "content": "What is my name?"},
    ]
    message = smollm2.message(messages=messages, max_tokens=60)
    assert "Ada" in text_of(message)


def test_max_tokens_ends_it(smollm2: Door) -> None:
    message = smollm2.message(messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=3)
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 3)
