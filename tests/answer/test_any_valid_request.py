"""Any valid request: its stream passes the table of states, and added up it is the message that is not streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from nbllama.wire.answers import MessageBuilder
from nbllama.wire.events import Event, MessageStart
from nbllama.wire.sse import Decoder, encode
from nbllama.wire.stream_states import StreamOrder

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "the sky", "n": [1, {"é": null}]}}\n</tool_call>'
ANSWERS = [
    "Plain words.",
    "<think>\nHm, so.\n</think>\n\nYes \u00e9 \U0001f600.",
    CALL,
    f"Let me see.\n{CALL}\n{CALL}",
    f"<think>\nI look.\n</think>\n\n{CALL}",
    "<think>\nnever closed",
    '<tool_call>\n{"name": "look", "argum',
    "   ",
    "",
]
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
EDITOR: dict[str, Any] = {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
SEARCH: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20).map(lambda t: t + ".")
text_blocks = st.builds(lambda text: {"type": "text", "text": text}, texts)
documents = st.builds(
    lambda text, title: {"type": "document", "title": title, "source": {"type": "text", "data": text}}, texts, texts
)
found = st.builds(lambda text: {"type": "search_result", "source": "s", "title": text, "content": []}, texts)
user = st.lists(st.one_of(text_blocks, documents, found), min_size=1, max_size=3)
thoughts = st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": ""}, texts)
said = st.lists(st.one_of(text_blocks, thoughts), min_size=1, max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": draw(user)}]
    for number in range(draw(st.integers(0, 3))):
        content, id = draw(said), f"toolu_{number}"
        if draw(st.booleans()):
            content = [*content, {"type": "tool_use", "id": id, "name": "look", "input": {"at": draw(texts)}}]
            result = {"type": "tool_result", "tool_use_id": id, "content": draw(st.one_of(texts, user))}
            answer = [result | {"is_error": draw(st.booleans())}, *draw(user)]
        else:
            answer = draw(user)
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": answer}]
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(texts)})
    return messages


requests = st.fixed_dictionaries(
    {
        "model": st.just("any"),
        "max_tokens": st.sampled_from([1, 3, 8, 200]),
        "messages": conversations(),
        "tools": st.lists(st.sampled_from([TOOL, EDITOR, SEARCH]), unique_by=lambda tool: tool["name"]),
    },
    optional={
        "system": texts,
        "thinking": st.sampled_from(
            [{"type": "adaptive"}, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}]
        ),
        "stop_sequences": st.lists(st.sampled_from(["Yes", "sky", "é"]), max_size=2),
        "zzz": st.just(1),
    },
)


async def both(body: dict[str, Any], answer: str) -> tuple[list[Event], dict[str, Any]]:
    """The events of the streamed answer, and the one that is not streamed, of a fresh service."""
    script = Script.parse({"rules": [{"answer": answer}]}, name="any")
    service = Service(ServiceSettings(model="demo"), load=lambda source, ctx, progress: ScriptedRuntime(script))
    await service.start()
    try:
        whole = await service.messages(json.dumps(body).encode(), client="a", request_id="req_1")
        message = await whole.message()
        streamed = json.dumps(body | {"stream": True}).encode()
        answer_ = await service.messages(streamed, client="b", request_id="req_2")
        return [event async for event in answer_.events()], message
    finally:
        await service.close()


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Without what is new each time: ids, and which of the prompt was in the cache."""
    content = [{key: value for key, value in block.items() if key != "id"} for block in message["content"]]
    usage = message["usage"]
    return {
        "content": content,
        "stop": (message["stop_reason"], message["stop_sequence"]),
        "prompt": usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"],
        "output": (usage["output_tokens"], usage["output_tokens_details"]),
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests, st.sampled_from(ANSWERS))
def test_the_stream_is_legal_and_is_the_message(body: dict[str, Any], answer: str) -> None:
    events, message = asyncio.run(asyncio.wait_for(both(body, answer), 60))

    order, builder = StreamOrder(), MessageBuilder()
    for event in events:
        order.check(event)
        builder.add(event)
    assert order.finished
    assert events[-1].name == "message_stop"
    assert comparable(builder.message()) == comparable(message)
    assert all(block.get("text", "x").strip() for block in message["content"])
    start = next(event for event in events if isinstance(event, MessageStart))
    assert start.message["usage"]["input_tokens"] > 0
    # What the bytes say is what the events say.
    decoded = Decoder().feed(b"".join(map(encode, events)))
    assert [event.json() for event in decoded] == [event.data() for event in events]
