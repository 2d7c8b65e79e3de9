from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.chat.deriving.described import DESCRIPTIONS
from nbllama.chat.format import Calls, Format, to_data

TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}


def _described(name: str) -> Format:
    return next(one.format for one in DESCRIPTIONS if name in one.why)


def test_a_format_of_the_configuration_is_used(tmp_path: Path) -> None:
    """The script writes calls as no template of its shows them."""
    script = tmp_path / "odd.json"
    script.write_text(json.dumps({"name": "odd", "default": "<run f><set a>x</set></run>"}))
    formats = {
        "odd": {
            "calls": {
                "syntax": "tagged",
                "open": "<run ",
                "name_close": ">",
                "key_open": "<set ",
                "value_open": ">",
                "value_close": "</set>",
                "close": "</run>",
            }
        }
    }
    message = asyncio.run(asked(ServiceSettings(model=f"scripted:{script}", formats=formats)))
    assert [(block["name"], block["input"]) for block in message["content"]] == [("f", {"a": "x"})]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("format", "answer"),
    [
        (Format(think=None, calls=Calls(arguments_path=("parameters",))), '{"name": "f", "parameters": {"b": [1]}}'),
        (_described("gpt-oss"), '<|channel|>commentary to=functions.ff <|constrain|>json<|message|>{"b": [1]}'),
        (_described("Functionary"), '>>>f\n{"b": [1]}'),
    ],
    ids=["bare JSON", "channels", "channels in plain text"],
)
def test_what_a_script_gets_wrong_behind_the_opening_of_a_call_is_put_right(
    tmp_path: Path, format: Format, answer: str
) -> None:
    script = tmp_path / "odd.json"
    script.write_text(json.dumps({"name": "odd", "default": answer}))
    settings = ServiceSettings(model=f"scripted:{script}", formats={"odd": to_data(format)})
    # What is left of the script behind the call is text.
    block = asyncio.run(asked(settings))["content"][0]
    assert (block["type"], block["name"]) == ("tool_use", "f")
    jsonschema.validate(block["input"], TOOL["input_schema"] | {"additionalProperties": False})


async def asked(settings: ServiceSettings) -> dict[str, Any]:
    service = Service(settings)
    await service.start()
    try:
        body = {"model": "odd", "max_tokens": 100, "messages": [{"role": "user", "content": "go"}], "tools": [TOOL]}
        answer = await service.messages(json.dumps(body).encode(), client="local", request_id="req_1")
        return await answer.message()
    finally:
        await service.close()
