"""The validator, on streams that keep the rules and on streams that break one each."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllama.views.events import Events
from nbllama.views.stream_rules import judge

RECORDINGS = sorted((Path(__file__).parents[1] / "recordings").glob("*.sse"))

Stream = list[Any]


def stream() -> Stream:
    """A good one: a text, then a call."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": usage}
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    return [
        {"type": "message_start", "message": message | {"stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": call},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]


def faults(events: list[Any]) -> list[tuple[int | None, str]]:
    return [(one.event, one.sentence) for one in judge(events) if one.fault]


def test_a_good_stream_has_no_findings() -> None:
    assert judge(stream()) == []
    assert judge([[n / 10, event] for n, event in enumerate(stream())]) == []
    assert Events.of(stream()).verdict == "The stream keeps every rule."


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: str(file.stem))
def test_recordings_of_servers_keep_the_rules(file: Path) -> None:
    events = Events.of_sse(file.read_bytes())
    assert len(events.rows()) > 3
    assert not [one for one in events.findings if one.fault]


def delta(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


BROKEN: list[tuple[str, Callable[[Stream], Any], int | None, str]] = [
    ("no start", lambda s: s.pop(0), 0, "before message_start"),
    ("two starts", lambda s: s.insert(1, s[0]), 1, "message_start, which may not come between blocks"),
    ("a block without its start", lambda s: s.pop(1), 1, "a text_delta while no block is open"),
    ("a gap in the indexes", lambda s: [one.update(index=1) for one in s[1:4]], 1, "without gaps: 0"),
    ("a delta for another block", lambda s: s[2].update(index=7), 2, "block 7; block 0 is open"),
    ("a delta of another kind", lambda s: s.insert(2, delta("input_json_delta", partial_json="{")), 2, "text block"),
    ("a delta of nothing", lambda s: s.insert(4, delta("text_delta", text="x")), 4, "while no block is open"),
    ("a block inside a block", lambda s: s.pop(3), 3, "starts a tool_use block, which may not come in a text block"),
    ("a second stop", lambda s: s.insert(4, s[3]), 4, "content_block_stop, which may not come between blocks"),
    ("a delta after message_delta", lambda s: s.insert(9, delta("text_delta", text="x")), 9, "no block is open"),
    ("JSON that breaks", lambda s: s[6]["delta"].update(partial_json="1"), 7, "no JSON at character"),
    ("JSON that is no object", lambda s: [s.pop(6), s[5]["delta"].update(partial_json="[1]")], 6, "no object"),
    ("an unknown stop reason", lambda s: s[8]["delta"].update(stop_reason="stop"), 8, "'stop'"),
    ("tool_use without a call", lambda s: s.__delitem__(slice(4, 8)), 4, "no tool_use block"),
    ("no usage", lambda s: s[8].pop("usage"), 8, "usage.output_tokens"),
    ("events behind the end", lambda s: s.append({"type": "ping"}), 10, "ping after the end"),
    ("cut off", lambda s: s.pop(), None, "ends after event 8, without message_stop"),
    ("cut off in a block", lambda s: s.__delitem__(slice(6, None)), None, "while block 1 is open"),
    ("content in the start", lambda s: s[0]["message"].update(content=[1]), 0, "has content already"),
    ("a call without a name", lambda s: s[4]["content_block"].pop("name"), 4, "without an id or a name"),
    ("no object", lambda s: s.__setitem__(slice(2, 2), ["text"]), 2, "no object with a type"),
    ("nothing", lambda s: s.clear(), None, "no events"),
    ("an empty error", lambda s: s.__setitem__(slice(3, None), [{"type": "error"}]), 3, "error.type"),
]


@pytest.mark.parametrize(("name", "break_it", "event", "part"), BROKEN, ids=[one[0] for one in BROKEN])
def test_one_fault_is_told_once_with_its_event(
    name: str, break_it: Callable[[Stream], Any], event: int | None, part: str
) -> None:
    events = copy.deepcopy(stream())
    break_it(events)
    found = faults(events)

    assert len(found) == 1, found
    assert found[0][0] == event and part in found[0][1]
    if events:
        view = Events.of(events)
        assert found[0][1] in view.text() and "breaks the rules 1 time." in view.text()
        assert "⚠" in view.html()


def test_what_clients_must_skip_is_a_note() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    events = stream()
    events[1:4] = [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 0},
    ]
    events.insert(1, {"type": "ping"})
    events.insert(2, {"type": "some_day"})
    assert faults(events) == []
    assert any("unknown type" in one.sentence for one in judge(events))


def test_a_second_message_delta_is_allowed_and_judged() -> None:
    events = stream()
    events.insert(9, copy.deepcopy(events[8]))
    assert judge(events) == []
    events[9]["delta"]["stop_reason"] = "stop"
    assert [event for event, _ in faults(events)] == [9]


def test_what_is_told_of_an_event_is_bounded() -> None:
    view = Events.of([{"type": "x" * 1_000_000}] * 60)
    assert len(view.html()) < 200_000 and len(view.text()) < 100_000


def test_long_silence_and_a_clock_that_goes_back() -> None:
    times = [0, 1, 20, 19, *range(20, 26)]
    notes = [one.sentence for one in judge([list(pair) for pair in zip(times, stream(), strict=True)])]
    assert len(notes) == 2
    assert "19.0 s of silence" in notes[0] and "1.000 s earlier" in notes[1]


def test_a_name_that_is_not_the_type() -> None:
    data = b"".join(f"event: x\ndata: {json.dumps(event)}\n\n".encode() for event in stream()[:1])
    assert "named x" in Events.of_sse(data).text()


def test_rows_of_events() -> None:
    rows = Events.of([[n / 4, event] for n, event in enumerate(stream())]).rows()
    assert list(rows[0]) == list(Events.columns)
    assert [row["gap"] for row in rows] == [None, *[0.25] * 9]
    assert (rows[2]["event"], rows[2]["index"], rows[2]["kind"], rows[2]["text"]) == (
        *("content_block_delta", 0, "text_delta", "Hi"),
    )
    assert json.loads(rows[9]["payload"]) == {"type": "message_stop"}
