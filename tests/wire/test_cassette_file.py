"""Cassettes as files: there and back, and whatever else a file may be."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from nbllama.wire import trace_file
from nbllama.wire.cassette_file import SCHEMA_VERSION, Cassette, CassetteError, Exchange, decode, encode
from tests.cassettes.tapes import answering, asking, call, recorded, text

CASSETTE = Cassette(
    created=1e9,
    models=[{"id": "m"}],
    exchanges=[
        recorded(asking("hi \ud83d"), answering(text("Hello"), call()), 0.1),
        Exchange("/v1/messages/count_tokens", asking("hi"), answer={"input_tokens": 7}),
        Exchange("/v1/messages", {}, status=400, headers={"x-should-retry": "false"}, answer={"type": "error"}),
    ],
)
FILE = encode(CASSETTE, compressed=False)


@pytest.mark.parametrize("compressed", [True, False])
def test_there_and_back(compressed: bool) -> None:
    data = encode(CASSETTE, compressed=compressed)
    assert data == encode(CASSETTE, compressed=compressed)
    assert decode(data, "lesson.json") == CASSETTE


def test_one_request_a_line() -> None:
    assert FILE.count(b"\n") == 1 + len(CASSETTE.exchanges) + 1


def test_a_trace_is_a_cassette_of_one_request() -> None:
    record = CASSETTE.exchanges[0].record
    assert record is not None
    assert decode(trace_file.encode(record, compressed=True), "trace.json.gz").exchanges == [CASSETTE.exchanges[0]]


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads(FILE), **values}).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"hello", "it holds no JSON"),
        (b"[" * 100_000, "it holds no JSON"),
        (b"[]", "no recording of nbllama's"),
        (b"{}", "no recording of nbllama's"),
        (FILE[: len(FILE) // 2], "it is cut off or changed"),
        (gzip.compress(FILE)[:-20], "its gzip is cut off"),
        (b"\x1f\x8bnonsense", "its gzip is broken"),
        (changed(schema_version=SCHEMA_VERSION + 1), "was recorded by a later nbllama"),
        (changed(schema_version=True), "no recording of nbllama's"),
        (changed(exchanges=[{"path": "/v1/messages"}]), "exchanges.0.request: Field required"),
        (changed(exchanges=[{"path": "/v1/messages", "request": {}}]), "exchanges.0: it holds no answer"),
        (
            changed(exchanges=[{"path": "/x", "request": {}, "answer": {}, "status": 7}]),
            "exchanges.0: it holds no answer",
        ),
    ],
)
def test_what_is_no_cassette_is_told_in_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(CassetteError, match=said) as raised:
        decode(data, "lesson.json")
    assert str(raised.value).startswith("lesson.json ")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


def test_a_record_with_broken_events_is_told() -> None:
    value = json.loads(FILE)
    value["exchanges"][0]["record"]["events"][1] = [0.1, {"no": "type"}]
    with pytest.raises(CassetteError, match=r"exchanges\.0\.record\.events"):
        decode(json.dumps(value).encode(), "lesson.json")


def test_fields_of_later_versions_are_passed_over() -> None:
    value = json.loads(FILE) | {"later": 1}
    value["exchanges"][0]["record"]["later"] = 1
    assert decode(json.dumps(value).encode(), "lesson.json") == CASSETTE
