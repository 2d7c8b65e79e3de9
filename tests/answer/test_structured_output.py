"""Answers under a JSON schema, by the demo model and by a script: always one text block that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import InvalidRequest
from tests.answer.test_service import ask, run, script, serving, stop_reason

__all__ = ["script"]

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"nickname": {"type": "string", "maxLength": 20}, "name": {"enum": ["Ada", "Alan"]}},
    "required": ["name"],
}
SMALL = {"type": "array", "maxItems": 2, "items": {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/unit"}]}}
SMALL["$defs"] = {"unit": {"enum": ["celsius", None]}}


def wanted(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}, **fields}


@pytest.mark.parametrize("schema", [PERSON, SMALL, {"const": {"a": [1]}}])
def test_the_demo_model_answers_in_json_whatever_it_wanted_to_say(schema: dict[str, Any]) -> None:
    async def check() -> None:
        async with serving("demo") as service:
            for seed in range(4):
                events = await ask(service, id=f"req_{seed}", nbllama={"seed": seed}, **wanted(schema))
                builder = MessageBuilder()
                for event in events:
                    builder.add(event)
                (block,) = builder.message()["content"]
                assert stop_reason(events) == "end_turn"
                jsonschema.validate(json.loads(block["text"]), schema)

    run(check())


def test_the_old_name_of_the_field(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(default='{"name": "Alan"}')) as service:
            await ask(service, output_format={"type": "json_schema", "schema": PERSON})
            assert service.trace("req_1", "local")["message"]["content"][0]["text"] == '{"name": "Alan"}'

    run(check())


def test_a_model_that_thinks_may_think_first(script: Callable[..., str]) -> None:
    answer = '<think>\nA name, {"in": "JSON"}.\n</think>\n\n{"name": "Ada"}'

    async def check() -> None:
        async with serving(script(default=answer)) as service:
            thinking = {"type": "enabled", "budget_tokens": 1024}
            await ask(service, **wanted(PERSON, thinking=thinking, max_tokens=2000))
            thoughts, text = service.trace("req_1", "local")["message"]["content"]
            assert (thoughts["type"], thoughts["thinking"].strip()) == ("thinking", 'A name, {"in": "JSON"}.')
            assert text["text"] == '{"name": "Ada"}'

    run(check())


def test_what_is_cut_off_ends_cleanly(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(default='{"name": "Ada", "nickname": "the countess"}')) as service:
            events = await ask(service, **wanted(PERSON, max_tokens=8))
            assert stop_reason(events) == "max_tokens"

    run(check())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "if": {}}, 'Unimplemented keys: \\["if"\\]'),
        ({"properties": {"a": 3}}, "output_config.format.schema.properties.a: Input should be a valid schema"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_a_400(script: Callable[..., str], schema: Any, words: str) -> None:
    async def check() -> None:
        async with serving(script(default="x")) as service:
            with pytest.raises(InvalidRequest, match=words):
                await ask(service, **wanted(schema))

    run(check())


def test_a_stop_sequence_still_stops(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(default='{"name": "Ada", "nickname": "countess"}')) as service:
            events = await ask(service, **wanted(PERSON, stop_sequences=["count"]))
            assert stop_reason(events) == "stop_sequence"

    run(check())
