"""The rules for a conversation as a whole: who may say what, and calls with their results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import MessagesRequest, parse_messages_request

Block = dict[str, Any]
Said = tuple[str, list[Block]]

HELLO: Block = {"type": "text", "text": "hello"}


def call(id: str = "t1") -> Block:
    return {"type": "tool_use", "id": id, "name": "look", "input": {}}


def result(id: str = "t1") -> Block:
    return {"type": "tool_result", "tool_use_id": id, "content": "seen"}


def parse(*said: Said) -> MessagesRequest:
    messages = [{"role": role, "content": blocks} for role, blocks in said]
    return parse_messages_request(json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode())


def refusal(*said: Said) -> str:
    with pytest.raises(InvalidRequest) as refused:
        parse(*said)
    return refused.value.message


ASK: Said = ("user", [HELLO])


@pytest.mark.parametrize(
    "said",
    [
        [ASK, ("assistant", [call("a"), call("b")]), ("user", [result("b"), result("a"), HELLO])],
        [ASK, ("assistant", [call("a"), call("b")]), ("user", [result("a")]), ("user", [result("b")])],
        [ASK, ("assistant", [HELLO]), ("assistant", [call()]), ("user", [result()])],
        [ASK, ("assistant", [call()]), ("user", [result()]), ("assistant", [call()]), ("user", [result()])],
        [ASK, ("assistant", [call()]), ("user", [result()]), ("system", [HELLO])],
        [("assistant", [HELLO]), ASK],
        [ASK, ("assistant", [])],
    ],
    ids=["two calls", "two messages", "merged calls", "a loop", "system after", "assistant first", "empty prefill"],
)
def test_accepted(said: list[Said]) -> None:
    assert [message.role for message in parse(*said).messages] == [role for role, _ in said]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            [ASK, ("assistant", [HELLO]), ("assistant", [call("a"), call("b")]), ("user", [result("a")])],
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: b. Each `tool_use` "
            "block must have a corresponding `tool_result` block in the next message.",
        ),
        (
            [ASK, ("assistant", [call()]), ("user", [HELLO, result()])],
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each `tool_use` "
            "block must have a corresponding `tool_result` block in the next message.",
        ),
        (
            [ASK, ("assistant", [call()]), ("user", [result()]), ("assistant", [HELLO]), ("user", [HELLO, result()])],
            "messages.4.content.1: unexpected `tool_use_id` found in `tool_result` blocks: t1. Each `tool_result` "
            "block must have a corresponding `tool_use` block in the previous message.",
        ),
        (
            [ASK, ("assistant", [call()]), ("user", [result(), result()])],
            "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with "
            "id: t1",
        ),
        ([("user", [call()])], "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
        ([ASK, ("assistant", [result()])], "messages.1.content.0: `tool_result` blocks can only be in `user` messages"),
        (
            [("user", [{"type": "thinking", "thinking": "hm"}])],
            "messages.0.content.0: `thinking` blocks can only be in `assistant` messages",
        ),
        (
            [ASK, ("system", [{"type": "image", "source": {}}])],
            "messages.1.content.0: `system` messages can only contain `text` blocks",
        ),
        (
            [ASK, ("assistant", []), ASK],
            "messages.1: all messages must have non-empty content except for the optional final assistant message",
        ),
        (
            [("user", [])],
            "messages.0: all messages must have non-empty content except for the optional final assistant message",
        ),
    ],
)
def test_refused(said: list[Said], text: str) -> None:
    assert refusal(*said) == text


def test_a_system_message_may_only_carry_settings() -> None:
    settings: dict[str, Any] = {"role": "system", "output_config": {"effort": "low"}}
    messages = [{"role": "user", "content": "x"}, settings]
    request = {"model": "m", "max_tokens": 9, "messages": messages}

    assert parse_messages_request(json.dumps(request).encode()).messages[1].content == []
    del settings["output_config"]
    with pytest.raises(InvalidRequest, match=r"^messages\.1\.content: Field required$"):
        parse_messages_request(json.dumps(request).encode())
