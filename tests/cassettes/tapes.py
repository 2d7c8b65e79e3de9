"""Recordings by hand, for tests."""

from __future__ import annotations

from typing import Any

from nbllama.cassettes.recorded import events_of
from nbllama.cassettes.tape import Tape
from nbllama.wire.answers import Usage, new_message
from nbllama.wire.cassette_file import MESSAGES, Cassette, Exchange
from nbllama.wire.records import RequestRecord


def asking(text: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **fields}


def answering(*blocks: dict[str, Any], id: str = "msg_1", model: str = "m") -> dict[str, Any]:
    usage = Usage(input_tokens=3, output_tokens=2).to_dict(final=True)
    calls = any(block["type"] == "tool_use" for block in blocks)
    reason = "tool_use" if calls else "end_turn"
    return new_message(id, model, usage) | {"content": list(blocks), "stop_reason": reason}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value, "citations": None}


def call(city: str = "Paris", id: str = "toolu_recorded") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "get_weather", "input": {"city": city}}


def recorded(request: dict[str, Any], message: dict[str, Any], step: float = 0.0) -> Exchange:
    """The events come `step` seconds apart."""
    events: list[list[Any]] = [[round(n * step, 6), event] for n, event in enumerate(events_of(message))]
    record = RequestRecord(
        id="req_recorded",
        message_id=message["id"],
        client="local",
        model=request["model"],
        created=1.0,
        stream=True,
        request=request,
        events=events,
        ending="done",
        message=message,
        model_id=message["model"],
        timings={"total_s": events[-1][0]},
    )
    return Exchange(MESSAGES, request, record=record)


def tape(*exchanges: Exchange) -> Tape:
    return Tape(Cassette(created=1e9, exchanges=list(exchanges)), "lesson.json")
