"""Valid requests, mutated: each is an answer or a 4xx that names what is wrong, in the parser and in a real worker."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import parse_count_tokens_request, parse_messages_request
from tests.whole.doors import Doors, open_doors, worker_pid

VALID: dict[str, Any] = {
    "model": "any",
    "max_tokens": 50,
    "stream": True,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "stop_sequences": ["END"],
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "metadata": {"user_id": "u"},
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "disabled"},
    "output_config": {"effort": "low"},
    "nbllama": {"seed": 5, "min_p": 0.1, "probabilities": 3},
    "tools": [
        {
            "name": "add",
            "description": "Adds",
            "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        }
    ],
    "messages": [
        {"role": "user", "content": "What is 1 + 1?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
}
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["\0", "\ud800", "\U000f0000", "🙂"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from([10**400, -1, 1e308, 0, 2**63]) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield (*path, name)
        yield from places(inner, (*path, name))


@st.composite
def mutated(draw: Any) -> dict[str, Any]:
    request = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *way, name = draw(st.sampled_from(list(places(request))))
        holder: Any = request
        for step in way:
            holder = holder[step]
        match draw(st.sampled_from(["delete", "replace", "nest", "double", "add"])):
            case "delete":
                del holder[name]
            case "replace":
                holder[name] = draw(VALUES)
            case "nest":
                holder[name] = [holder[name]] if draw(st.booleans()) else {"type": holder[name]}
            case "double" if isinstance(holder, list):
                holder.insert(name, copy.deepcopy(holder[name]))
            case _ if isinstance(holder, dict):
                holder[draw(TEXTS)] = draw(VALUES)
        if not request:
            return request
    return request


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mutated())
def test_the_parser_takes_or_refuses(request: dict[str, Any]) -> None:
    body = json.dumps(request).encode()
    for parse in (parse_messages_request, parse_count_tokens_request):
        try:
            parse(body)
        except InvalidRequest as error:
            assert error.message and len(error.message) < 20_000
            field = error.message.partition(":")[0]
            assert field.split(".")[0] in {*request, *VALID, "The request body is not valid JSON"}, error.message


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with open_doors() as doors:
        yield doors


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(request=mutated())
def test_a_worker_answers_or_refuses(doors: Doors, request: dict[str, Any]) -> None:
    body = json.dumps(request).encode()
    reply = doors.worker.post("/v1/messages", body)
    reply.check(200, 400, 404, 413)
    if b"text/event-stream" in reply.raw:
        assert reply.raw.count(b"event: message_stop") + reply.raw.count(b"event: error") == 1
        assert b"api_error" not in reply.raw
    doors.worker.post("/v1/messages/count_tokens", body).check(200, 400, 404)


def test_the_worker_is_still_the_same(doors: Doors) -> None:
    assert worker_pid(doors) == doors.pid
