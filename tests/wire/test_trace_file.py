"""A trace survives the way through a file, older ones load, and what is none is refused in one sentence."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields, replace
from typing import Any

import pytest

from nbllama.wire import trace_file
from nbllama.wire.records import SCHEMA_VERSION, RequestRecord
from nbllama.wire.trace_file import TraceFileError, decode, encode
from tests.wire.test_records import RECORD

FULL = replace(
    RECORD,
    prompt="<|im_start|>é\ud83e",
    prompt_offsets=[0, 12, 13],
    pieces={"1": "3c7c", "4": "c3"},
    special=[1],
    token_times=[0.25, 0.5],
    probabilities=[{"logprob": -0.5, "top": [[4, -0.5]], "raw_top": None, "forced": False}],
    reuse={"cached_tokens": 2, "first_difference": None, "reason": "…"},
    prefill=[[0.2, 3]],
    error={"type": "api_error", "message": "no"},
)
# What a version wrote that knew none of the fields that came later.
OLDEST: dict[str, Any] = {
    "schema_version": 1,
    "id": "req_1",
    "message_id": "msg_1",
    "client": "local",
    "model": "demo",
    "created": 1764000000,
    "stream": True,
    "prompt_ids": [1, 2],
    "events": [[0.1, {"type": "ping"}]],
}


@pytest.mark.parametrize("compressed", [True, False])
def test_a_record_comes_back(compressed: bool) -> None:
    data = encode(FULL, compressed=compressed)

    assert data.startswith(b"\x1f\x8b") is compressed
    assert decode(data, "lesson.json") == FULL
    assert encode(FULL, compressed=compressed) == data


def test_the_name_says_whether_a_file_is_gzipped() -> None:
    assert trace_file.is_compressed_name("a/Lesson.JSON.GZ")
    assert not trace_file.is_compressed_name("a/gz.json")


def test_an_older_file_loads_without_what_it_does_not_know() -> None:
    record = decode(json.dumps(OLDEST).encode(), "old.json")

    assert (record.id, record.prompt_ids, record.created) == ("req_1", [1, 2], 1764000000.0)
    assert (record.pieces, record.probabilities, record.reuse, record.model_id) == ({}, [], {}, "")


def test_fields_that_were_added_without_a_new_version_are_left_out() -> None:
    assert decode(json.dumps(OLDEST | {"colour": "red"}).encode(), "new.json").id == "req_1"


def refused(data: bytes) -> str:
    with pytest.raises(TraceFileError) as error:
        decode(data, "file.json")
    said = str(error.value)
    assert said.startswith("file.json ")
    assert "\n" not in said
    assert len(said) < 250
    return said


def test_a_later_version_is_refused_and_says_what_to_do() -> None:
    said = refused(json.dumps(OLDEST | {"schema_version": SCHEMA_VERSION + 1}).encode())

    assert f"schema version {SCHEMA_VERSION + 1}" in said
    assert "upgrade nbllama" in said


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "schema_version"),
        (b'{"cells": [], "nbformat": 4}', "schema_version"),
        (json.dumps(OLDEST | {"kind": "nbllama cassette"}).encode(), "no trace"),
        (json.dumps(OLDEST | {"schema_version": "1"}).encode(), "schema_version is 1"),
        (json.dumps(OLDEST | {"schema_version": True}).encode(), "schema_version is True"),
        (json.dumps(OLDEST | {"schema_version": "x" * 10_000}).encode(), "schema_version is x"),
        (json.dumps({"schema_version": 1}).encode(), "id: "),
        (json.dumps(OLDEST | {"prompt_ids": ["x"]}).encode(), "prompt_ids.0: "),
        (json.dumps(OLDEST | {"events": 7}).encode(), "events: "),
        (b"\x1f\x8bnot a gzip", "gzip is broken"),
        (gzip.compress(json.dumps(OLDEST).encode())[:-12], "gzip is cut off"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(data: bytes, says: str) -> None:
    assert says in refused(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_too_large_is_not_unpacked_whole(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    monkeypatch.setattr(trace_file, "MAX_BYTES", 1 << 20)

    assert "more than 1 MB" in refused(pack(b" " * (4 << 20)))


def test_a_record_as_the_worker_serves_it_is_a_trace_file_already() -> None:
    assert decode(json.dumps(FULL.to_dict()).encode(), "served.json") == FULL


def test_every_field_of_a_record_is_checked() -> None:
    for field in fields(RequestRecord):
        wrong = 1 if field.type == "str" else "x"
        assert f"{field.name}: " in refused(json.dumps(OLDEST | {field.name: wrong}).encode())
