"""A record survives the way to a reader, also to one of another version."""

from __future__ import annotations

import json

from nbllama.wire.records import SCHEMA_VERSION, RequestRecord

RECORD = RequestRecord(
    id="req_1",
    message_id="msg_1",
    client="local",
    model="demo",
    created=1.5,
    stream=True,
    request={"model": "demo"},
    prompt="<|im_start|>",
    spans=[{"start": 0, "end": 12, "kind": "template", "message": None, "block": None}],
    prompt_ids=[1, 2, 3],
    cached_tokens=2,
    output_ids=[4, 5],
    output_text="ok",
    parser_steps=[{"start": 0, "end": 2, "state": "text", "decision": "no marker", "pieces": ["TextDelta"]}],
    events=[[0.1, {"type": "ping"}]],
    timings={"total_s": 2.0, "tokens_per_second": 9.0},
    ending="done",
)


def test_a_record_comes_back_from_json() -> None:
    assert RequestRecord.from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD


def test_a_reader_ignores_what_it_does_not_know() -> None:
    data = RECORD.to_dict() | {"schema_version": SCHEMA_VERSION + 1, "colour": "red"}

    assert RequestRecord.from_dict(data) == RECORD


def test_a_summary_counts_and_shows_no_text() -> None:
    summary = RECORD.summary()

    assert (summary["prompt_tokens"], summary["cached_tokens"], summary["output_tokens"]) == (3, 2, 2)
    assert (summary["ending"], summary["total_s"]) == ("done", 2.0)
    assert RECORD.prompt not in json.dumps(summary)
