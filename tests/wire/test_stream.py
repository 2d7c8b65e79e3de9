"""Events in order, as bytes and back, and added up to one message that the SDK accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from nbllama.wire.answers import MessageBuilder, Usage, model_info, new_id, new_message
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
from nbllama.wire.sse import Decoder, ServerSentEvent, encode, encode_comment
from nbllama.wire.stream_states import StreamOrder, StreamOrderError

START = MessageStart(new_message(new_id("msg"), "m", Usage(input_tokens=3).to_dict()))
TOTAL = Usage(input_tokens=3, output_tokens=4, thinking_tokens=1).to_dict(final=True)
END: list[Event] = [MessageDelta("end_turn", None, TOTAL), MessageStop()]
THINK: list[Event] = [
    ContentBlockStart(0, {"type": "thinking", "thinking": "", "signature": ""}),
    ContentBlockDelta(0, {"type": "thinking_delta", "thinking": "hm"}),
    ContentBlockDelta(0, {"type": "signature_delta", "signature": "s"}),
    ContentBlockStop(0),
]
TEXT: list[Event] = [
    ContentBlockStart(1, {"type": "text", "text": ""}),
    ContentBlockDelta(1, {"type": "text_delta", "text": "Grüße "}),
    Ping({"state": "prefill"}),
    ContentBlockDelta(1, {"type": "text_delta", "text": "🦙"}),
    ContentBlockStop(1),
]
CALL: list[Event] = [
    ContentBlockStart(2, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}),
    ContentBlockDelta(2, {"type": "input_json_delta", "partial_json": ""}),
    ContentBlockDelta(2, {"type": "input_json_delta", "partial_json": '{"a": [1'}),
    ContentBlockDelta(2, {"type": "input_json_delta", "partial_json": "]}"}),
    ContentBlockStop(2),
]
WHOLE: list[Event] = [Ping(), START, *THINK, *TEXT, *CALL, *END]


def test_a_whole_stream_passes_the_table() -> None:
    order = StreamOrder()

    for event in WHOLE:
        order.check(event)

    assert order.finished


@pytest.mark.parametrize(
    "events",
    [
        [END[1]],
        [START, START],
        [START, TEXT[0]],
        [START, THINK[0], THINK[0]],
        [START, THINK[0], ContentBlockDelta(0, {"type": "text_delta", "text": "x"})],
        [START, *THINK[:3], THINK[2]],
        [START, *THINK[:3], THINK[1]],
        [START, THINK[0], ContentBlockStop(1)],
        [START, THINK[0], END[0]],
        [START, MessageStop()],
        [START, *END, Ping()],
        [START, ErrorEvent({}), ErrorEvent({})],
    ],
)
def test_an_illegal_step_is_refused(events: list[Event]) -> None:
    order = StreamOrder()

    with pytest.raises(StreamOrderError, match=r"may not come in state|has index"):
        for event in events:
            order.check(event)


@given(st.integers(1, 40))
def test_bytes_come_back_as_the_same_events_however_they_are_cut(size: int) -> None:
    data = b"".join(map(encode, WHOLE))
    decoder = Decoder()

    events = [event for i in range(0, len(data), size) for event in decoder.feed(data[i : i + size])]

    assert [(event.name, event.json()) for event in events] == [(event.name, event.data()) for event in WHOLE]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_line_end_comments_and_several_data_lines(end: str, size: int) -> None:
    text = end.join([": a comment", "event: x", "data: one", "data:two", "id: 7", "", "data: z", "", ""])
    decoder = Decoder()

    events = [event for i in range(0, len(text), size) for event in decoder.feed(text[i : i + size].encode())]
    events += decoder.flush()

    # A lone CR at the very end may still become CRLF; the next byte decides nothing about the event.
    assert events == [ServerSentEvent("x", "one\ntwo"), ServerSentEvent("message", "z")]


def test_every_line_of_a_comment_is_one() -> None:
    assert encode_comment("a\ndata: b\n\nevent: c") == b": a\n: data: b\n: \n: event: c\n\n"
    assert Decoder().feed(encode_comment("a\ndata: b\n\nevent: c") + encode_comment("")) == []


def test_an_event_without_its_blank_line_never_happened() -> None:
    decoder = Decoder()

    assert decoder.feed(b"event: x\ndata: 1\n") == []
    assert decoder.flush() == []


def test_the_stream_adds_up_to_a_message_that_the_sdk_accepts() -> None:
    builder = MessageBuilder()
    for event in WHOLE:
        builder.add(event)

    message = builder.message()

    Message.model_validate(message, strict=True)
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Grüße 🦙"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1]}},
    ]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["output_tokens"] == 4
    assert START.message["content"] == [], "the start event was changed by adding up"


def test_a_lone_surrogate_does_not_break_the_stream() -> None:
    data = encode(ContentBlockDelta(0, {"type": "text_delta", "text": "\ud83e"}))

    assert json.loads(data.split(b"data: ")[1])["delta"]["text"] == "?"


def test_model_info_is_what_the_sdk_accepts() -> None:
    from anthropic.types import ModelInfo

    for thinking in (None, True, False):
        info: dict[str, Any] = model_info("m", "M", "2026-01-01T00:00:00Z", max_input_tokens=9, thinking=thinking)
        ModelInfo.model_validate(info)


def test_capabilities_are_there_with_all_keys_or_not_at_all() -> None:
    known = model_info("m", "M", "2026-01-01T00:00:00Z", max_input_tokens=9, thinking=True)["capabilities"]
    flags = {"batch", "citations", "code_execution", "image_input", "pdf_input", "structured_outputs"}

    assert set(known) == {*flags, "context_management", "effort", "server_tools", "thinking"}
    assert all(known[flag].keys() == {"supported"} for flag in flags)
    assert {"supported", "low", "medium", "high", "max"} <= set(known["effort"])
    assert set(known["server_tools"]) == {"supported", "web_search", "code_execution"}
    assert set(known["thinking"]["types"]) == {"adaptive", "between_tools", "disabled", "enabled"}
    assert [flag for flag in sorted(flags) if known[flag]["supported"]] == ["pdf_input", "structured_outputs"]
    assert "capabilities" not in model_info("m", "M", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("thinking", [True, False])
def test_a_model_that_cannot_think_says_so(thinking: bool) -> None:
    info = model_info("m", "M", "2026-01-01T00:00:00Z", max_input_tokens=9, thinking=thinking)
    types = info["capabilities"]["thinking"]["types"]

    assert info["lifecycle"] == "active"
    assert info["capabilities"]["thinking"]["supported"] is thinking
    assert {name: type["supported"] for name, type in types.items()} == {
        "adaptive": thinking,
        "between_tools": False,
        "disabled": True,
        "enabled": thinking,
    }
