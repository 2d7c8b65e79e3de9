"""A worker of another version drains while its successor already answers; weights leave the memory and come back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbllama.worker import connection

WORDS = "one two three four five six seven eight nine ten"
Start = Callable[[], connection.Endpoint]


@pytest.fixture
def start(runtime: Path) -> Start:
    """Finds or starts a whole worker with a scripted model. Killed by `runtime`."""
    rules = [{"when": "slow", "answer": WORDS, "delay_s": 0.1}]
    (runtime / "model.json").write_text(json.dumps({"rules": rules, "default": "quick"}))

    def ensure() -> connection.Endpoint:
        endpoint = connection.ensure(model=f"scripted:{runtime}/model.json")
        with (runtime / "starts").open("a") as starts:
            print(endpoint.pid, file=starts)
        return endpoint

    return ensure


def asking(text: str) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}


def state_of(endpoint: connection.Endpoint) -> str:
    (model,) = connection.request_json(endpoint, "GET", "/nbllama/status")["models"]
    return str(model["state"])


def wait_until_unloaded(endpoint: connection.Endpoint) -> None:
    deadline = time.monotonic() + 30
    while state_of(endpoint) != "unloaded":
        assert time.monotonic() < deadline, "it stays in memory"


def test_another_version_finishes_its_answer_while_the_next_one_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = start()
    events = connection.stream_events(old, asking("slow"))
    seen = [next(events)]
    monkeypatch.setattr(connection, "__version__", "999")
    new = start()

    assert new.pid != old.pid
    assert connection.find() == new
    assert connection.request_json(new, "POST", "/v1/messages", asking("hi"))["content"][0]["text"] == "quick"
    seen += events
    deltas = [json.loads(event.data)["delta"]["text"] for event in seen if event.name == "content_block_delta"]
    assert "".join(deltas) == WORDS
    assert seen[-1].name == "message_stop"
    assert connection.wait_until_gone(old)


def test_an_unused_model_leaves_the_memory_and_comes_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_IDLE_UNLOAD", "0.2")
    endpoint = start()
    with connection.attach(endpoint):
        for _ in range(2):
            assert connection.request_json(endpoint, "POST", "/v1/messages", asking("hi"))["type"] == "message"
            wait_until_unloaded(endpoint)
        assert connection.find() == endpoint
