"""Blocks of other servers, typed and deferred tools, breakpoints: taken, shown, named or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import MessagesRequest, parse_messages_request

ASK: dict[str, Any] = {"role": "user", "content": "hi"}
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
LATER: dict[str, Any] = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}
SEARCH: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}
CALL: dict[str, Any] = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
KEEP: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
KEEP_LONG: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def parse(lenient: bool = False, **fields: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [ASK]} | fields
    return parse_messages_request(json.dumps(body).encode(), lenient=lenient)


def result(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": list(content)}]}


def names(request: MessagesRequest) -> list[str]:
    return [tool.name for tool in request.tools]


@pytest.mark.parametrize(
    ("type", "name", "property"),
    [
        ("bash_20250124", "bash", "restart"),
        ("bash_20241022", "bash", "command"),
        ("text_editor_20250124", "str_replace_editor", "new_str"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "insert_text"),
        ("memory_20250818", "memory", "old_path"),
        ("computer_20251124", "computer", "region"),
    ],
)
def test_typed_client_tools_get_their_schema(type: str, name: str, property: str) -> None:
    request = parse(tools=[{"type": type, "name": name, "max_characters": 9}])

    assert names(request) == [name]
    assert property in request.tools[0].input_schema["properties"]
    assert request.ignored == []
    with pytest.raises(InvalidRequest, match=rf"tools\.0\.{type}\.name: Input should be '{name}'"):
        parse(tools=[{"type": type, "name": "other"}])


def test_the_old_editor_can_undo_and_the_new_one_cannot() -> None:
    def commands(type: str, name: str) -> list[str]:
        schema = parse(tools=[{"type": type, "name": name}]).tools[0].input_schema
        values: list[str] = schema["properties"]["command"]["enum"]
        return values

    assert "undo_edit" in commands("text_editor_20250124", "str_replace_editor")
    assert "undo_edit" not in commands("text_editor_20250728", "str_replace_based_edit_tool")


def test_a_server_tool_that_is_forced_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="Tool 'web_search' runs on Anthropic's servers, not here"):
        parse(tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"})


def test_a_deferred_tool_is_shown_once_a_result_refers_to_it() -> None:
    found = {"type": "tool_reference", "tool_name": "later"}

    assert names(parse(tools=[LATER, TOOL])) == ["look"]
    request = parse(tools=[LATER, TOOL], messages=[ASK, CALL, result(found)])
    assert names(request) == ["later", "look"]
    assert request.ignored == []
    with pytest.raises(InvalidRequest) as refused:
        parse(tools=[TOOL], messages=[ASK, CALL, result(found)])
    assert refused.value.message == "messages.2.content.0: Tool reference 'later' not found in available tools"
    assert refused.value.details == {"error_code": "tool_reference_unresolved"}


def test_a_deferred_tool_is_shown_once_the_search_of_another_server_found_it() -> None:
    search = {
        "type": "tool_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "later"}, {"tool_name": "gone"}],
        },
    }
    asked = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "tool_search_tool_regex", "input": {"pattern": "l"}}

    assert names(
        parse(tools=[TOOL, LATER], messages=[ASK, {"role": "assistant", "content": [asked, search]}, ASK])
    ) == [
        "look",
        "later",
    ]


def test_tools_come_and_go_in_the_middle_of_a_conversation() -> None:
    def change(kind: str, **tool: Any) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": f"tool_{kind}", "tool": tool}]}

    by_name = change("addition", type="tool_reference", name="later")
    by_value = change("addition", type="tool_definition", definition=TOOL | {"name": "new"})
    gone = change("removal", type="tool_reference", name="look")

    assert names(parse(tools=[TOOL, LATER], messages=[ASK, by_name, by_value, gone])) == ["later", "new"]
    with pytest.raises(InvalidRequest, match="Tool reference 'no' not found"):
        parse(tools=[TOOL], messages=[ASK, change("addition", type="tool_reference", name="no")])
    with pytest.raises(InvalidRequest, match="`tool_addition` blocks can only be in `system` messages"):
        parse(tools=[TOOL], messages=[{"role": "user", "content": by_name["content"]}])


def test_what_the_api_minds_and_a_lenient_server_does_not() -> None:
    broken = {"name": "odd", "input_schema": {"type": "object", "properties": {"location": "bar"}}}
    for tools, text in [
        ([LATER], "tools: At least one tool must have defer_loading=false. All tools cannot be deferred."),
        ([TOOL, LATER | KEEP], "tools.1: tools with defer_loading=true cannot have cache_control"),
        ([broken], "tools.0.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12"),
    ]:
        with pytest.raises(InvalidRequest) as refused:
            parse(tools=tools)
        assert refused.value.message == text
        assert parse(lenient=True, tools=tools).sent_tools

    odd = {"format": {"type": "json_schema", "schema": {"foo": "bar"}}}
    assert parse(output_config=odd).output_schema == {"foo": "bar"}
    assert parse(lenient=True, output_config=odd).output_schema == {}


def test_breakpoints_are_found_in_the_order_of_the_prompt() -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"} | KEEP]}
    request = parse(
        tools=[TOOL | KEEP_LONG],
        system=[{"type": "text", "text": "s"} | KEEP_LONG],
        messages=[user, ASK],
        cache_control={"type": "ephemeral"},
    )

    assert [(point.place, point.ttl) for point in request.breakpoints] == [
        ("tools.0", "1h"),
        ("system.0", "1h"),
        ("messages.0.content.1", "5m"),
        ("messages.1.content.0", "5m"),
    ]
    assert request.ignored == []


def test_breakpoints_that_the_api_refuses() -> None:
    def user(*marks: dict[str, Any]) -> dict[str, Any]:
        return {"role": "user", "content": [{"type": "text", "text": "a"} | mark for mark in marks]}

    five = "A maximum of 4 blocks with cache_control may be provided. Found 5."
    for fields, text in [
        ({"messages": [user(*[KEEP] * 5)]}, five),
        ({"messages": [user(*[KEEP] * 4, {})], **KEEP}, five),
        ({"messages": [user(KEEP, KEEP_LONG)]}, "a ttl='1h' cache_control block must not come after a ttl='5m'"),
        ({"messages": [user(KEEP_LONG)], **KEEP}, "has a cache_control with another ttl"),
        ({"messages": [user({"cache_control": {"type": "x"}})]}, "cache_control.type: Input should be 'ephemeral'"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ttl: Input should be '5m' or '1h'"),
    ]:
        with pytest.raises(InvalidRequest) as refused:
            parse(**fields)
        assert text in refused.value.message


def test_blocks_that_no_model_reads_are_named() -> None:
    blocks = [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "y"}, {"type": "fallback"}]
    request = parse(messages=[ASK, {"role": "assistant", "content": blocks}, ASK])

    assert request.ignored == ["messages.1.content.0 (redacted_thinking)", "messages.1.content.2 (fallback)"]
