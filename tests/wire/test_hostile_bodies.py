"""Bodies that are JSON and would break somebody later, or cost more than they are worth."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import parse_messages_request

ASK = b'{"role":"user","content":"hi"}'


def body(fields: bytes) -> bytes:
    return b'{"model":"m","max_tokens":9,"messages":[' + ASK + b"]," + fields + b"}"


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages_request(data)
    return refused.value.message


def nested(depth: int) -> bytes:
    return b'"zzz":' + b"[" * depth + b"]" * depth


def test_depth_that_others_can_walk_is_accepted() -> None:
    request = body(nested(190))

    assert parse_messages_request(request).ignored == ["zzz"]
    json.loads(request)


@pytest.mark.parametrize("depth", [201, 900, 100_000])
def test_depth_that_would_exhaust_the_stack_is_refused(depth: int) -> None:
    assert refusal(body(nested(depth))).startswith("The request body is not valid JSON: recursion limit")


def test_half_a_surrogate_is_refused_as_it_has_no_bytes() -> None:
    assert "The request body is not valid JSON" in refusal(body(b'"system":"\\ud83e"'))


@pytest.mark.parametrize("number", [b"1e999", b"-1E+400", b"1" * 400 + b".0", b"NaN", b"Infinity", b"9" * 5000])
def test_numbers_that_cannot_be_written_again_are_refused(number: bytes) -> None:
    assert "The request body is not valid JSON" in refusal(body(b'"zzz":' + number))


def test_a_text_that_only_looks_like_such_a_number_is_accepted() -> None:
    assert parse_messages_request(body(b'"system":"1e999"')).system[0].text == "1e999"


@pytest.mark.parametrize("name", ["messages", "system", "tools", "stop_sequences"])
def test_of_many_problems_only_the_first_is_described(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages_request(
            json.dumps({"model": "m", "max_tokens": 9, "messages": []} | {name: [1] * 1000}).encode()
        )

    assert isinstance(refused.value.__cause__, ValidationError)
    assert refused.value.__cause__.error_count() == 1


def test_ignored_names_stay_short_enough_for_a_header() -> None:
    fields = ",".join(f'"{"x" * 500}{index}":1' for index in range(1000))

    assert sum(map(len, parse_messages_request(body(fields.encode())).ignored)) < 4096


def test_a_long_tag_is_not_sent_back_whole() -> None:
    content = json.dumps([{"type": "t" * 100_000}]).encode()

    assert len(refusal(b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":' + content + b"}]}")) < 1000


@pytest.mark.parametrize("name", ["ignored", "sent_tools", "_ignored", "model_fields", "seed", "tools_"])
def test_a_field_named_like_one_of_our_attributes_changes_nothing(name: str) -> None:
    request = parse_messages_request(body(f'"{name}":["x"]'.encode()))

    assert (request.ignored, request.tools, request.seed) == ([name], [], None)
