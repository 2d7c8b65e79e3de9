"""What is accepted and what is refused, in the API's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllama.wire.content import ToolResultBlock
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import MessagesRequest, parse_count_tokens_request, parse_messages_request

TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
ASK: dict[str, Any] = {"role": "user", "content": "hi"}
CALL: dict[str, Any] = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}


def result(id: str = "t1", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, **fields}]}


def parse(**fields: Any) -> MessagesRequest:
    request = {"model": "m", "max_tokens": 2048, "messages": [ASK]} | fields
    return parse_messages_request(json.dumps({k: v for k, v in request.items() if v != "absent"}).encode())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"messages": "absent"}, "messages: Field required"),
        ({"max_tokens": "absent"}, "max_tokens: Field required"),
        ({"model": "absent"}, "model: Field required"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages.0.role: Input should be 'user', 'assistant' or"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
            "text content blocks must be",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages.0.content.0: Input tag 'x' found using",
        ),
        (
            {"messages": [ASK, {"role": "assistant", "content": "a "}]},
            "final assistant content cannot end with trailing",
        ),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0, "stream": True}, "max_tokens: 0 may not be combined"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"top_p": -0.1}, "top_p: Input should be greater than or equal to 0"),
        ({"top_k": -1}, "top_k: Input should be greater than or equal to 0"),
        ({"stop_sequences": ["ok", " "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"system": [{"type": "image", "source": {}}]}, "system.0.type: Input should be 'text'"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        (
            {"tools": [{"name": "a b", "input_schema": {}}]},
            "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        ({"tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tool_choice": {"type": "any"}}, "tool_choice may only be specified while providing tools."),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "no"}}, "Tool 'no' not found in provided tools"),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "budget_tokens: Input should be greater than or equal"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "must be greater than `thinking.budget_tokens`"),
        (
            {"messages": [ASK, CALL, ASK]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately",
        ),
        ({"messages": [ASK, CALL]}, "`tool_use` ids were found without `tool_result` blocks immediately after: t1"),
        ({"messages": [ASK, CALL, result("t2")]}, "`tool_use` ids were found without"),
        (
            {"messages": [ASK, result("t9")]},
            "messages.1.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t9",
        ),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
    ],
)
def test_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)

    assert text in refused.value.message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"a": NaN}', b"{" + b'"a":{' * 9999]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="The request body is not valid JSON"):
        parse_messages_request(body)


def test_threads_are_refused_with_the_code_that_clients_wait_for() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(thread={"type": "create"})

    assert refused.value.body()["error"]["details"] == {"error_code": "thread_unsupported_request"}


def test_strings_are_one_text_block() -> None:
    request = parse(system="be brief", messages=[ASK])

    assert request.system[0].text == "be brief"
    assert [block.type for block in request.messages[0].content] == ["text"]


def test_the_billing_line_is_dropped() -> None:
    blocks = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=1"}, {"type": "text", "text": "You are"}]

    assert [block.text for block in parse(system=blocks).system] == ["You are"]


def test_unknown_fields_are_accepted_and_named() -> None:
    request = parse(context_management={"edits": []}, zzz=1, metadata={"user_id": "u"}, service_tier=None)

    assert request.ignored == ["context_management", "zzz"]


def test_echoed_blocks_may_hold_nulls_and_unknown_keys() -> None:
    echoed = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "yes", "citations": None, "parsed_output": None},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {}, "caller": {"type": "direct"}},
    ]
    request = parse(messages=[ASK, {"role": "assistant", "content": echoed}, result()])

    assert [block.type for block in request.messages[1].content] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize("content", ["absent", None, "", []])
def test_a_tool_result_may_be_empty(content: Any) -> None:
    fields = {} if content == "absent" else {"content": content}
    block = parse(messages=[ASK, CALL, result(**fields)]).messages[2].content[0]

    assert isinstance(block, ToolResultBlock)
    assert block.content == []


def test_results_may_be_split_over_messages_and_a_system_message_may_stand_between() -> None:
    note = {"role": "system", "content": "note"}

    assert len(parse(messages=[ASK, CALL, note, result(), ASK]).messages) == 5


def test_server_tools_are_dropped_and_named() -> None:
    request = parse(tools=[TOOL, {"type": "web_search_20250305", "name": "web_search"}])

    assert [tool.name for tool in request.tools] == ["look"]
    assert request.ignored == ["tools.1 (web_search_20250305)"]


def test_deferred_tools_are_hidden() -> None:
    assert [tool.name for tool in parse(tools=[TOOL, TOOL | {"name": "later", "defer_loading": True}]).tools] == [
        "look"
    ]


def test_thinking_is_on_only_when_asked_for() -> None:
    assert parse(thinking={"type": "adaptive"}).thinking_enabled
    assert parse(thinking={"type": "enabled", "budget_tokens": 1024}).thinking_enabled
    assert not parse(thinking={"type": "disabled"}).thinking_enabled
    assert not parse().thinking_enabled


def test_counting_needs_no_max_tokens() -> None:
    body = json.dumps({"model": "m", "messages": [ASK], "tools": [TOOL], "stream": True}).encode()

    assert parse_count_tokens_request(body).tools[0].name == "look"


def test_our_own_field_carries_a_seed() -> None:
    assert parse(nbllama={"seed": 7}).seed == 7
