from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from nbllama.answer.service import Service, ServiceSettings

TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}


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


async def asked(settings: ServiceSettings) -> dict[str, Any]:
    service = Service(settings)
    await service.start()
    try:
        body = {"model": "odd", "max_tokens": 100, "messages": [{"role": "user", "content": "go"}], "tools": [TOOL]}
        answer = await service.messages(json.dumps(body).encode(), client="local", request_id="req_1")
        return await answer.message()
    finally:
        await service.close()
