"""Any text as tokens and as calls: what the two doors beside the Messages API say, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer import any_text
from nbllama.answer.any_text import AnyText
from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.views.replaying import as_asked
from nbllama.wire.errors import ApiError
from nbllama.wire.requests import parse_count_tokens_request
from tests.views.asking import CALL, RULES, WEATHER, asked, records, user

Fields = dict[str, Any]


@pytest.fixture
def doors(tmp_path: Path) -> Callable[[Callable[[AnyText], Awaitable[Fields]]], Fields]:
    """Runs something with the doors of a service over a scripted model."""
    file = tmp_path / "demonstration.json"
    file.write_text(json.dumps({"rules": RULES}))

    async def run(work: Callable[[AnyText], Awaitable[Fields]]) -> Fields:
        service = Service(ServiceSettings(model=f"scripted:{file}"))
        await service.start()
        try:
            return await work(service.texts)
        finally:
            await service.close()

    return lambda work: asyncio.run(run(work))


Doors = Callable[[Callable[[AnyText], Awaitable[Fields]]], Fields]


def test_a_text_is_tokens_with_their_places(doors: Doors) -> None:
    text = "Hello ä€🙂 <|im_end|> there"
    plain = doors(lambda door: door.tokenize({"text": text}, client="local"))
    special = doors(lambda door: door.tokenize({"text": "<|im_end|>", "special": True}, client="local"))

    assert b"".join(bytes.fromhex(plain["pieces"][str(id)]) for id in plain["prompt_ids"]).decode() == text
    assert len(plain["prompt_offsets"]) == len(plain["prompt_ids"]) and plain["special"] == []
    assert plain["spans"] == [{"start": 0, "end": len(text), "kind": "text", "message": None, "block": None}]
    assert len(special["prompt_ids"]) == 1 and special["special"] == special["prompt_ids"]


def test_messages_are_the_prompt_of_a_request(doors: Doors, tmp_path: Path) -> None:
    body = asked(user("The weather in Paris?"), system="Be brief.", tools=[WEATHER])
    (record,) = records(tmp_path, body)
    shown = doors(lambda door: door.tokenize({**body, "model": ""}, client="local"))

    assert shown["prompt"] == record["prompt"] and shown["spans"] == record["spans"]
    assert len(shown["prompt_ids"]) == len(record["prompt_ids"]) and shown["n_ctx"] == record["n_ctx"]


def test_messages_are_read_while_other_streams_go_on(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def noting(body: bytes) -> Any:
        threads.append(threading.current_thread())
        return parse_count_tokens_request(body)

    monkeypatch.setattr(any_text, "parse_count_tokens_request", noting)
    assert doors(lambda door: door.tokenize({**asked(user("Hello")), "model": ""}, client="local"))["prompt_ids"]
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


def test_a_text_is_read_as_an_answer_was(doors: Doors, tmp_path: Path) -> None:
    (record,) = records(tmp_path, asked(user("The weather in Paris?"), tools=[WEATHER], thinking={"type": "adaptive"}))
    read = doors(lambda door: door.parse({**as_asked(record), "model": ""}))

    assert read["parser_steps"] == record["parser_steps"] and read["warnings"] == []
    texts = [block.get("thinking") or block.get("text") for block in record["message"]["content"]]
    assert [block.get("thinking") or block.get("text") for block in read["message"]["content"]] == texts
    assert [event["type"] for event in read["events"][-2:]] == ["message_delta", "message_stop"]
    assert read["message"]["content"][-1]["input"] == {"city": "Paris"}


def test_a_text_is_read_by_a_format_or_a_template_that_is_sent(doors: Doors) -> None:
    text = '<call>{"name": "get_weather", "arguments": {"city": "Rome"}}</call>'
    format = {"calls": {"open": "<call>", "close": "</call>"}}
    template = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"

    def read(**how: Any) -> Any:
        return doors(lambda door: door.parse({"text": text, "tools": [WEATHER], **how}))["message"]["content"][-1]

    assert read()["type"] == "text"
    assert read(format=format)["input"] == {"city": "Rome"}
    assert read(template=template)["type"] == "text"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 400, "messages: a text or messages are required"),
        ({"text": ""}, 400, "text: Input should be a string that is not empty"),
        ({"text": "x" * 101}, 400, "text: 101 characters are more than the 100 that are shown"),
        ({"messages": [{"role": "user", "content": "x" * 101}]}, 400, "messages: .* more than the 100"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, 400, "messages.0.role"),
        ({"text": "x", "model": "demonstratoin"}, 404, "did you mean demonstration?"),
        ({"text": "x", "model": "/nowhere/at/all"}, 404, "there is demonstration"),
    ],
)
def test_what_is_no_text(
    doors: Doors, body: Fields, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(any_text, "MOST_CHARACTERS", 100)
    with pytest.raises(ApiError, match=sentence) as caught:
        doors(lambda door: door.tokenize(body, client="local"))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"format": {"calls": {"syntax": "nonsense"}}}, r"format\.calls\.syntax: is none of"),
        ({"format": 5}, "format: should be an object"),
        ({"template": "{% for %}"}, "template"),
        ({"template": "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}"}, "template"),
        ({"template": "x" * (any_text.MOST_TEMPLATE + 1)}, "at most 1,048,576 characters"),
        ({"template": "x", "format": {}}, "only one of model, template and format"),
        ({"tools": ["get_weather"]}, "tools: "),
        ({"prompt_tail": 5}, "prompt_tail: "),
        ({"cuts": [True]}, "cuts: "),
    ],
)
def test_what_is_no_format(doors: Doors, how: Fields, sentence: str) -> None:
    with pytest.raises(ApiError, match=sentence) as caught:
        doors(lambda door: door.parse({"text": CALL, **how}))
    assert caught.value.status == 400
