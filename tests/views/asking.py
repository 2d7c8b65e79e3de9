"""Records of real requests: the real service over a scripted model, one after another."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings

Record = dict[str, Any]

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK: dict[str, Any] = {
    "name": "get_time",
    "description": "Get the time of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
THOUGHT = "They greet me. I greet them back."
RULES = [
    {"when": "weather", "answer": f"<think>\nI look it up.\n</think>\n\nOne moment.\n{CALL}"},
    {"when": "think", "answer": f"<think>\n{THOUGHT}\n</think>\n\nHello to you!"},
]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def asked(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "any", "max_tokens": 200, "messages": list(messages), **fields}


def records(folder: Path, *bodies: dict[str, Any], **script: Any) -> list[Record]:
    """What a fresh worker's service recorded of these requests. `script` is the scripted model's."""
    file = folder / "model.json"
    file.write_text(json.dumps({"rules": RULES, "default": "Hello!", **script}))
    return asyncio.run(_ask(f"scripted:{file}", bodies))


async def _ask(model: str, bodies: tuple[dict[str, Any], ...]) -> list[Record]:
    service = Service(ServiceSettings(model=model))
    await service.start()
    try:
        return [await _record(service, n, body) for n, body in enumerate(bodies)]
    finally:
        await service.close()


async def _record(service: Service, n: int, body: dict[str, Any]) -> Record:
    id = f"req_{n:024}"
    answer = await service.messages(json.dumps(body).encode(), client="local", request_id=id)
    if answer.stream:
        _ = [event async for event in answer.events()]
    else:
        await answer.message()
    return service.trace(id, "local")
