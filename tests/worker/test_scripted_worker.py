"""The whole worker process with the real service, and a scripted model in it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nbllama.wire import trace_file
from nbllama.wire.errors import ApiError
from nbllama.worker import connection
from nbllama.worker.errors import WorkerDied

WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture
def scripted(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> connection.Endpoint:
    """A worker whose model answers `slow` within a second and `endless` within minutes. Killed by `runtime`."""
    rules = [
        {"when": "slow", "answer": WORDS, "delay_s": 0.05},
        {"when": "endless", "answer": "word " * 5000, "delay_s": 0.05},
        {"when": "count", "answer": WORDS},
    ]
    (runtime / "model.json").write_text(json.dumps({"rules": rules}))
    monkeypatch.chdir(runtime)
    endpoint = connection.ensure(model="scripted:model.json")
    with (runtime / "starts").open("a") as starts:
        print(endpoint.pid, file=starts)
    return endpoint


def asking(text: str) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 8000, "messages": [{"role": "user", "content": text}]}


def text_of(events: list[Any]) -> str:
    deltas = [json.loads(event.data)["delta"] for event in events if event.name == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas)


def test_one_request_in_both_ways(scripted: connection.Endpoint) -> None:
    seen: dict[str, str] = {}
    events = list(connection.stream_events(scripted, asking("count"), on_headers=seen.update))
    message = connection.request_json(scripted, "POST", "/v1/messages", asking("count"))
    trace = connection.request_json(scripted, "GET", f"/nbllama/traces/{seen['request-id']}")

    assert text_of(events) == message["content"][0]["text"] == WORDS
    assert [event.name for event in events][-1] == "message_stop"
    assert seen["nbllama-model"] == "model"
    assert trace["ending"] == "done"


def test_a_setting_asks_for_probabilities_and_the_trace_is_a_file(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("NBLLAMA_PROBABILITIES", "2")
    scripted = request.getfixturevalue("scripted")
    message = connection.request_json(scripted, "POST", "/v1/messages", asking("count"))
    trace = connection.request_json(scripted, "GET", f"/nbllama/traces/{message['id']}")

    assert [len(one["top"]) for one in trace["probabilities"]] == [2] * len(trace["output_ids"])
    record = trace_file.decode(json.dumps(trace).encode(), "served.json")
    assert record.to_dict() == trace
    pieces = b"".join(bytes.fromhex(record.pieces[str(id)]) for id in record.output_ids)
    assert pieces.decode() == WORDS


def test_the_log_holds_neither_prompt_nor_answer(scripted: connection.Endpoint) -> None:
    connection.request_json(scripted, "POST", "/v1/messages", asking("count my-diary"))
    with pytest.raises(ApiError):
        connection.request_json(scripted, "POST", "/v1/messages", {"max_tokens": "my-diary"})
    log = Path(scripted.info["log"]).read_text()

    assert "POST /v1/messages 200" in log
    assert "my-diary" not in log
    assert WORDS not in log


def test_a_client_that_leaves_frees_its_slot(scripted: connection.Endpoint) -> None:
    events = connection.stream_events(scripted, asking("endless"))
    while next(events).name != "content_block_delta":
        pass
    events.close()  # type: ignore[attr-defined]  # a generator

    assert connection.stop(scripted)
    assert connection.wait_until_gone(scripted, timeout=20)


def test_killed_in_the_middle(scripted: connection.Endpoint) -> None:
    events = connection.stream_events(scripted, asking("endless"))
    while next(events).name != "content_block_delta":
        pass
    os.kill(scripted.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerDied):
        list(events)
    another = connection.ensure(model="scripted:model.json")
    assert another.pid != scripted.pid
    assert connection.stop(another)
    assert connection.wait_until_gone(another)


def test_a_stop_lets_the_running_answer_finish(scripted: connection.Endpoint) -> None:
    events = connection.stream_events(scripted, asking("slow"))
    seen = [next(events)]

    assert connection.stop(scripted)
    seen += events
    assert text_of(seen) == WORDS
    assert seen[-1].name == "message_stop"
