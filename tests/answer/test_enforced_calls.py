"""Tools and thinking enforced in whole answers, by the demo model, which would rather say something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.events import Event
from tests.answer.test_service import CALL, WEATHER, ask, run, script, serving, stop_reason

__all__ = ["script"]

LOOK: dict[str, Any] = {
    "name": "look",
    "input_schema": {
        "type": "object",
        "properties": {
            "depth": {"type": "integer"},
            "what": {"type": "string", "maxLength": 20},
            "where": {"anyOf": [{"enum": ["here", "there"]}, {"$ref": "#/$defs/place"}]},
        },
        "required": ["what", "where"],
        "$defs": {"place": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}},
    },
}
IF = {"name": "odd", "input_schema": {"type": "object", "properties": {"a": {"type": "integer", "if": {}}}}}


def message(events: list[Event]) -> dict[str, Any]:
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    return builder.message()


def calls(events: list[Event]) -> list[dict[str, Any]]:
    return [block for block in message(events)["content"] if block["type"] == "tool_use"]


@pytest.mark.parametrize(
    "choice", [{"type": "any"}, {"type": "tool", "name": "look"}], ids=lambda choice: str(choice["type"])
)
def test_a_forced_call_is_made_and_fits(choice: dict[str, Any]) -> None:
    async def check() -> None:
        async with serving("demo") as service:
            for seed in range(3):
                choosing = {**choice, "disable_parallel_tool_use": True}
                tools = [LOOK, WEATHER]
                events = await ask(
                    service, id=f"r{seed}", tools=tools, tool_choice=choosing, nbllama={"seed": seed}, max_tokens=2000
                )
                (call,) = message(events)["content"]
                assert call["type"] == "tool_use" and stop_reason(events) == "tool_use"
                schemas = {tool["name"]: tool["input_schema"] for tool in tools}
                assert call["name"] == "look" or choice["type"] == "any"
                jsonschema.validate(call["input"], schemas[call["name"]])
                assert service.trace(f"r{seed}", "local")["ignored"] == []

    run(check())


def test_one_that_is_cut_off_is_marked_and_valid_json() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            for limit in (3, 12, 25, 40):
                events = await ask(service, id=f"r{limit}", tools=[LOOK], tool_choice={"type": "any"}, max_tokens=limit)
                assert stop_reason(events) == "max_tokens"
                assert all(isinstance(call["input"], dict) for call in calls(events))

    run(check())


def test_after_the_marker_a_call_cannot_go_wrong(script: Callable[..., str]) -> None:
    """The script misspells the tool; what it may not write is replaced."""

    async def check() -> None:
        wrong = CALL.replace("get_weather", "get_whether")
        async with serving(script(rules=[{"answer": f"Let me see.\n{wrong}"}])) as service:
            events = await ask(service, tools=[WEATHER])
            text, call = message(events)["content"]
            assert text["text"] == "Let me see." and call["name"] == "get_weather"

    run(check())


def test_with_none_a_call_is_text(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": CALL}])) as service:
            events = await ask(service, tools=[WEATHER], tool_choice={"type": "none"})
            (block,) = message(events)["content"]
            assert block == {"type": "text", "text": CALL}

    run(check())


def test_a_value_or_a_call_first(script: Callable[..., str]) -> None:
    async def check() -> None:
        schema = {"type": "object", "properties": {"sunny": {"type": "boolean"}}, "required": ["sunny"]}
        wanted: dict[str, Any] = {
            "tools": [WEATHER],
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }
        async with serving(script(rules=[{"answer": CALL}])) as service:
            assert calls(await ask(service, **wanted))[0]["input"] == {"location": "Paris"}
        async with serving(script(rules=[{"answer": '{"sunny": true}'}])) as service:
            (block,) = message(await ask(service, **wanted))["content"]
            assert json.loads(block["text"]) == {"sunny": True}

    run(check())


def test_a_schema_that_no_grammar_follows_is_a_400_only_where_it_must_be_followed(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "Hello."}])) as service:
            await ask(service, tools=[IF])
            warnings = service.trace("req_1", "local")["warnings"]
            (warning,) = [words for words in warnings if "if" in words and "tools." in words]
            assert warning.startswith("tools.0.custom.input_schema") and '"if"' in warning
            with pytest.raises(InvalidRequest, match=r'tools\.0\.custom\.input_schema.*"if"'):
                await ask(service, id="req_2", tools=[{**IF, "strict": True}])

    run(check())


def test_thinking_ends_at_its_budget(script: Callable[..., str]) -> None:
    async def check() -> None:
        thoughts = "so " * 3000
        async with serving(script(rules=[{"answer": f"<think>\n{thoughts}"}])) as service:
            budget = {"type": "enabled", "budget_tokens": 1024}
            answer = message(await ask(service, thinking=budget, max_tokens=1100))
            assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
            thinking_tokens = answer["usage"]["output_tokens_details"]["thinking_tokens"]
            assert 1020 <= thinking_tokens <= 1040

    run(check())


def test_adaptive_thinking_leaves_room_for_an_answer(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "<think>\n" + "so " * 3000}])) as service:
            counted = {}
            for effort in ("low", "high", "max"):
                fields: dict[str, Any] = {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
                answer = message(await ask(service, id=effort, max_tokens=400, **fields))
                assert answer["content"][-1]["type"] == "text"
                counted[effort] = answer["usage"]["output_tokens_details"]["thinking_tokens"]
            assert 0 < counted["low"] < counted["high"] < counted["max"] < 400

    run(check())
