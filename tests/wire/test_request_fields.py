"""Fields beside the messages: their exact words, nulls, and what is said to be ignored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.ignored import ignored_betas
from nbllama.wire.requests import MessagesRequest, parse_count_tokens_request, parse_messages_request

TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
SEARCH: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}
LATER: dict[str, Any] = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}
CALL: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": "hm", "signature": ""}
TOOLSET: dict[str, Any] = {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}}
QUOTED: dict[str, Any] = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "d"},
    "citations": {"enabled": True},
}
PAGE: dict[str, Any] = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "browser_state"}]}
JSON: dict[str, Any] = {"type": "json_schema", "schema": {"type": "object"}}
BUDGET: dict[str, Any] = {"type": "enabled", "budget_tokens": 1024}


def data(**fields: Any) -> bytes:
    request = {"model": "m", "max_tokens": 2048, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(request | fields).encode()


def parse(**fields: Any) -> MessagesRequest:
    return parse_messages_request(data(**fields))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"tools": [{"name": "a b", "input_schema": {}}]},
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        ({"tools": [SEARCH, {"name": "a"}]}, "tools.1.custom.input_schema: Field required"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        (
            {"tools": [{"name": "a", "input_schema": {"type": "array"}}]},
            "tools.0.custom.input_schema.type: Input should be 'object'",
        ),
        ({"tools": [1]}, "tools.0.custom: Input should be a valid dictionary"),
        ({"tools": [TOOL, LATER, LATER]}, "tools: Tool names must be unique."),
        (
            {"tools": [SEARCH], "tool_choice": {"type": "any"}},
            "tool_choice: none of the provided tools can be called here",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
        ({"tools": [TOOL], "tool_choice": {}}, "tool_choice.type: Field required"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "must"}},
            "tool_choice: Input tag 'must' found using 'type' does not match any of the expected tags: "
            "'auto', 'any', 'none', 'tool'",
        ),
        (
            {"tools": [{"type": "zsh_20250124", "name": "zsh"}]},
            "tools.0: Input tag 'zsh_20250124' found using 'type' does not match any of the expected tags: 'custom', "
            "'bash_*', 'text_editor_*', 'memory_*', 'computer_*', 'web_search_*', 'web_fetch_*', 'code_execution_*', "
            "'tool_search_tool_*', 'mcp_toolset*', 'advisor_*', 'computer_toolset_*', 'browser_toolset_*'",
        ),
        (
            {"thinking": BUDGET | {"budget_tokens": 5}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        ({"thinking": BUDGET, "max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        (
            {"thinking": {"type": "disabled", "display": "omitted"}},
            "thinking.disabled.display: Extra inputs are not permitted",
        ),
        (
            {"thinking": BUDGET, "tools": [TOOL], "tool_choice": {"type": "any"}},
            "Thinking may not be enabled when tool_choice forces tool use.",
        ),
        (
            {"output_config": {"effort": "huge"}},
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
        ({"system": 3}, "system: Input should be a valid list"),
        ({"stop_sequences": ["\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"stop_sequences": [1]}, "stop_sequences.0: Input should be a valid string"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0, "thinking": BUDGET}, "max_tokens: 0 may not be combined with thinking"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"temperature": "0"}, "temperature: Input should be a valid number"),
        ({"nbllama": {"seed": -1}}, "nbllama.seed: Input should be greater than or equal to 0"),
        ({"messages": [1]}, "messages.0: Input should be a valid dictionary"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type: Field required"),
        (
            {"messages": [{"role": "assistant", "content": [CALL | {"input": "{}"}]}]},
            "messages.0.content.0.tool_use.input: Input should be a valid dictionary",
        ),
        ({"compaction": {"type": "summarize"}}, "compaction: not supported"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id: Input should be a valid string"),
        ({"metadata": {"user_id": "x" * 257}}, "metadata.user_id: String should have at most 256 characters"),
        ({"service_tier": "gold"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"speed": "warp"}, "speed: Input should be 'standard' or 'fast'"),
        ({"context_management": 1}, "context_management: Input should be a valid dictionary"),
        (
            {"messages": [{"role": "assistant", "content": [THOUGHT | {"cache_control": {"type": "ephemeral"}}]}]},
            "messages.0.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            "messages.0.content.0: `container_upload` blocks need tools of Anthropic's, which are not here",
        ),
        (
            {"messages": [{"role": "assistant", "content": [CALL]}, {"role": "user", "content": [PAGE]}]},
            "messages.1.content.0: `browser_state` blocks need tools of Anthropic's, which are not here",
        ),
        (
            {"messages": [{"role": "user", "content": [QUOTED]}], "output_config": {"format": JSON}},
            "messages.0.content.0: citations may not be combined with output_config.format",
        ),
        (
            {"tools": [TOOLSET], "tool_choice": {"type": "any"}},
            "tool_choice: none of the provided tools can be called here",
        ),
        (
            {"tools": [TOOLSET, TOOL], "tool_choice": {"type": "tool", "name": "left_click"}},
            "tool_choice: Tool 'left_click' not found in provided tools",
        ),
    ],
)
def test_refused_with_exactly_these_words(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)

    assert refused.value.message == text


def test_a_null_is_a_field_left_out() -> None:
    names = ["stream", "system", "tools", "tool_choice", "thinking", "stop_sequences", "temperature", "metadata"]
    request = parse(**dict.fromkeys([*names, "thread", "nbllama", "output_config", "cache_control"]))

    assert request == parse()
    assert request.ignored == []


def test_adaptive_thinking_may_be_combined_with_a_forced_call() -> None:
    assert parse(thinking={"type": "adaptive"}, tools=[TOOL], tool_choice={"type": "any"}).thinking_enabled


def test_what_is_not_acted_upon_is_named() -> None:
    request = parse(
        cache_control={"type": "ephemeral"},
        output_config={"effort": "low"},
        tools=[TOOL, SEARCH, LATER],
        tool_choice={"type": "tool", "name": "look"},
        nbllama={"seed": 1, "colour": "red"},
    )

    assert request.ignored == [
        "nbllama.colour",
        "tools.1 (web_search_20250305)",
        "tools.2 (defer_loading)",
    ]
    assert parse(thinking=BUDGET).ignored == []


def test_toolsets_are_dropped_and_named_and_leave_the_other_tools() -> None:
    request = parse(tools=[TOOLSET, TOOL, {"type": "browser_toolset_20260801"}])

    assert [tool.name for tool in request.tools] == ["look"]
    assert request.ignored == ["tools.0 (computer_toolset_20260801)", "tools.2 (browser_toolset_20260801)"]


def test_parts_within_a_field_are_named_too() -> None:
    settings = {"role": "system", "output_config": {"effort": "low"}}
    request = parse(
        messages=[{"role": "user", "content": "hi"}, settings],
        thinking={"type": "adaptive", "display": "updates", "block_binding": "strict"},
        tools=[TOOL | {"allowed_callers": ["code_execution_20260521"]}, LATER | {"allowed_callers": ["direct"]}],
    )

    assert request.ignored == [
        "thinking.block_binding",
        "tools.0 (allowed_callers)",
        "tools.1 (defer_loading)",
        "messages.1.output_config",
    ]


def test_betas_that_change_nothing_here_are_named() -> None:
    headers = ["string, structured-outputs-2025-12-15,effort-2025-11-24", "computer-use-2024-10-22", ""]

    assert ignored_betas(headers) == ["anthropic-beta (string)", "anthropic-beta (effort-2025-11-24)"]
    assert len(ignored_betas(["x" * 1000 + "," for _ in range(1000)])) == 32
    assert ignored_betas(["x" * 1000]) == [f"anthropic-beta ({'x' * 64})"]


def test_a_request_with_only_tools_that_run_elsewhere_is_answered_without() -> None:
    assert parse(tools=[SEARCH], tool_choice={"type": "auto"}).tools == []


def test_the_billing_line_of_a_plain_system_prompt_takes_nothing_with_it() -> None:
    assert parse(system="x-anthropic-billing-header: a=b;\nBe brief.").system[0].text == "Be brief."


def test_sampling_fields_are_kept_as_sent() -> None:
    request = parse(temperature=0, top_p=0.5, top_k=3, nbllama={"seed": 7, "min_p": 0.1, "probabilities": 20})

    assert (request.temperature, request.top_p, request.top_k, request.seed, request.min_p) == (0.0, 0.5, 3, 7, 0.1)
    assert (request.probabilities, parse().probabilities, request.ignored) == (20, None, [])


def test_counting_takes_a_whole_request_and_checks_what_makes_the_prompt() -> None:
    assert parse_count_tokens_request(data(thinking=BUDGET, max_tokens=1)).thinking_enabled
    with pytest.raises(InvalidRequest, match="messages: at least one message is required"):
        parse_count_tokens_request(data(messages=[]))


def test_counting_tolerates_what_only_an_answer_needs() -> None:
    fields: dict[str, Any] = {"compaction": {"type": "summarize"}, "mcp_servers": [{"type": "url", "name": "n"}]}

    assert parse_count_tokens_request(data(**fields)).ignored == ["compaction", "mcp_servers"]
    for name, value in fields.items():
        with pytest.raises(InvalidRequest, match=f"{name}: not supported"):
            parse(**{name: value})


@pytest.mark.parametrize("parse_body", [parse_messages_request, parse_count_tokens_request])
def test_our_own_field_is_checked_wherever_it_is_sent(parse_body: Callable[[bytes], object]) -> None:
    with pytest.raises(InvalidRequest, match="nbllama: Input should be a valid dictionary"):
        parse_body(data(nbllama=True))
