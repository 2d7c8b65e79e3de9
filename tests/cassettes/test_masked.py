"""What leaves a recording, also as tokens."""

from __future__ import annotations

import json
from typing import Any

from nbllama.cassettes.masked import COVERED_ID, masked_exchange
from nbllama.views import every
from nbllama.wire.cassette_file import Exchange, exchange_json
from nbllama.wire.records import RequestRecord

SECRETS = ("sk-abcdefghijkl", "/home/ann/data.csv", "ann@example.org")
TEXT = f"use {SECRETS[0]} on {SECRETS[1]} and tell {SECRETS[2]} bye"


def record_of(text: str) -> RequestRecord:
    """A token for each two characters, in the prompt and in the answer."""
    parts = [text[n : n + 2] for n in range(0, len(text), 2)]
    ids = {part: n for n, part in enumerate(dict.fromkeys(parts))}
    deltas: list[Any] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in parts
    ]
    return RequestRecord(
        id="req_1",
        message_id="msg_1",
        client="local",
        model="m",
        created=1.0,
        stream=True,
        prompt=text,
        prompt_ids=[ids[part] for part in parts],
        prompt_offsets=list(range(0, len(text), 2)),
        output_ids=[ids[part] for part in parts],
        output_text=text,
        token_times=[0.1] * len(parts),
        probabilities=[{"logprob": -0.1, "top": [[ids[part], -0.1]]} for part in parts],
        pieces={str(id): part.encode().hex() for part, id in ids.items()},
        events=[[0.1, delta] for delta in deltas],
        message={"content": [{"type": "text", "text": text}]},
    )


def spelled(record: RequestRecord, ids: list[int]) -> str:
    return b"".join(bytes.fromhex(record.pieces[str(id)]) for id in ids).decode()


def test_no_secret_is_left_in_texts_or_in_tokens() -> None:
    request = {"messages": [{"role": "user", "content": TEXT}], "password": "hunter2 hunter2"}
    found = masked_exchange(Exchange("/v1/messages", request, record=record_of(TEXT)))
    record = found.record
    assert record is not None

    written = exchange_json(found)
    for secret in (*SECRETS, "hunter2"):
        assert secret not in written
    for text in (spelled(record, record.prompt_ids), spelled(record, record.output_ids)):
        assert text.startswith("use ") and text.endswith("bye")
        assert not any(secret[3:9] in text for secret in SECRETS)
    assert len(record.prompt) == len(TEXT)
    assert {id for told in record.probabilities for id, _ in told["top"]} <= set(record.output_ids)
    assert COVERED_ID in record.prompt_ids
    for name in every.NAMES:
        assert every.view_of(name, record).html()


def test_what_json_hides_from_a_pattern_is_covered_in_it_too() -> None:
    """Behind an escaped line end no path begins, and a password may be any words."""
    files = {"list": "x\n/home/ann/data.csv\nann@example.org", "password": "open the door"}
    arguments = json.dumps(files)
    record = record_of(f"call {arguments} end")
    record.message = {"content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": files}]}
    parts = [arguments[n : n + 5] for n in range(0, len(arguments), 5)]
    delta = {"type": "content_block_delta", "index": 1}
    record.events = [[0.1, {**delta, "delta": {"type": "input_json_delta", "partial_json": part}}] for part in parts]
    found = masked_exchange(Exchange("/v1/messages", {"n": 1}, record=record))
    assert found.record is not None and found.record.message is not None

    partial = "".join(event["delta"]["partial_json"] for _, event in found.record.events)
    assert json.loads(partial) == found.record.message["content"][0]["input"]
    for text in (exchange_json(found), spelled(found.record, found.record.output_ids)):
        assert not any(secret in text for secret in ("home/ann", "door", "ann@ex"))


def test_what_holds_no_secret_is_left_alone() -> None:
    record = record_of("Hello there")
    found = masked_exchange(Exchange("/v1/messages", {"n": 1}, record=record))
    assert found.record is not None
    record.request = {"n": 1}
    assert found.record == record
