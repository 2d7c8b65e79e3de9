"""Recorded streams: as bytes, cut anywhere, they pass the table of states and add up to the message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbllama.wire.answers import MessageBuilder
from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
)
from nbllama.wire.sse import Decoder, encode
from nbllama.wire.stream_states import StreamOrder

RECORDINGS = Path(__file__).parents[1] / "recordings"
CALL = {"type": "tool_use", "id": f"toolu_{'0' * 24}", "name": "get_weather"}
THOUGHT = {"type": "thinking", "thinking": "Two and two.", "signature": "c2lnbmVk"}
# What was asked for and said: content, stop reason, stop sequence.
MESSAGES: dict[str, tuple[list[dict[str, Any]], str | None, str | None]] = {
    "text": ([{"type": "text", "text": "Grüezi! How are you? 🦙"}], "end_turn", None),
    "tool_use": (
        [{"type": "text", "text": "Let me look."}, CALL | {"input": {"location": "Zürich", "days": [1, 2]}}],
        "tool_use",
        None,
    ),
    "thinking": ([THOUGHT, {"type": "text", "text": "It is 4."}], "end_turn", None),
    "error": ([{"type": "text", "text": ""}], None, None),
    "stop_sequence": ([{"type": "text", "text": "one two three "}], "stop_sequence", "STOP"),
}


def event_of(data: dict[str, Any]) -> Event:
    """The JSON of an event → the event. Fails for what is none."""
    match data["type"]:
        case "message_start":
            return MessageStart(data["message"])
        case "content_block_start":
            return ContentBlockStart(data["index"], data["content_block"])
        case "content_block_delta":
            return ContentBlockDelta(data["index"], data["delta"])
        case "content_block_stop":
            return ContentBlockStop(data["index"])
        case "message_delta":
            delta = data["delta"]
            return MessageDelta(
                delta["stop_reason"], delta["stop_sequence"], data["usage"], data.get("context_management")
            )
        case "message_stop":
            return MessageStop()
        case "ping":
            return Ping(data.get("nbllama", {}))
        case "error":
            return ErrorEvent(data)
    raise AssertionError(f"no event: {data}")


def events_of(stream: bytes, size: int = 1 << 20) -> list[Event]:
    """The events of a stream that comes in pieces of `size` bytes; each was sent under its own name."""
    decoder = Decoder()
    sent = [event for start in range(0, len(stream), size) for event in decoder.feed(stream[start : start + size])]
    assert all(event.name == event.json()["type"] for event in sent)
    return [event_of(event.json()) for event in sent]


def recorded(name: str) -> bytes:
    return (RECORDINGS / f"{name}.sse").read_bytes()


def test_every_recording_is_known() -> None:
    assert {path.stem for path in RECORDINGS.glob("*.sse")} == set(MESSAGES)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_recording_passes_the_table_and_adds_up(name: str, size: int) -> None:
    order, builder = StreamOrder(), MessageBuilder()
    for event in events_of(recorded(name), size):
        order.check(event)
        builder.add(event)

    message = builder.message()
    assert order.finished
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == MESSAGES[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_sent_is_what_was_recorded(name: str) -> None:
    stream = recorded(name).replace(b"\r\n", b"\n")

    assert b"".join(map(encode, events_of(stream))) == stream


def test_the_error_is_the_last_that_is_said() -> None:
    *before, last = events_of(recorded("error"))

    assert isinstance(last, ErrorEvent)
    assert set(last.body) == {"type", "error", "request_id"}
    assert not any(isinstance(event, ErrorEvent | MessageDelta | MessageStop) for event in before)


def test_a_signature_stands_right_before_the_end_of_its_block() -> None:
    events = events_of(recorded("thinking"))
    signatures = [
        place
        for place, event in enumerate(events)
        if isinstance(event, ContentBlockDelta) and event.delta["type"] == "signature_delta"
    ]

    assert len(signatures) == 1
    assert events[signatures[0] + 1] == ContentBlockStop(0)


@pytest.mark.parametrize("name", [name for name in MESSAGES if name != "error"])
def test_usage_is_told_as_totals(name: str) -> None:
    events = events_of(recorded(name))
    start = next(event.message["usage"] for event in events if isinstance(event, MessageStart))
    end = next(event.usage for event in events if isinstance(event, MessageDelta))
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

    assert set(start) < set(end)
    assert sum(start[part] for part in parts) == sum(end[part] for part in parts) > 0
    assert end["output_tokens"] > start["output_tokens"]
    assert (end["output_tokens_details"]["thinking_tokens"] > 0) == (name == "thinking")
