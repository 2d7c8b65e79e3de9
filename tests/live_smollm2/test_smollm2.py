"""A real model, as it is published: `nbllama models get smollm2` comes first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve_process import Door, serving


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Door]:
    with serving("smollm2") as door:
        yield door


def text_of(message: dict[str, object]) -> str:
    blocks = message["content"]
    assert isinstance(blocks, list)
    return "".join(block["text"] for block in blocks if block["type"] == "text")


def test_it_answers_a_question_in_english(smollm2: Door) -> None:
    question = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
    message = smollm2.message(messages=[question], temperature=0)
    assert "Paris" in text_of(message)
    assert message["stop_reason"] == "end_turn"


def test_it_remembers_what_was_said(smollm2: Door) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Nice to meet you, Ada!"},
        {"role": "user", "content": "What is my name?"},
    ]
    message = smollm2.message(messages=messages, temperature=0, max_tokens=60)
    assert "Ada" in text_of(message)


def test_max_tokens_ends_it(smollm2: Door) -> None:
    message = smollm2.message(messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=8)
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 8)
