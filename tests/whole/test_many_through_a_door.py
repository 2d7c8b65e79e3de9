"""Two hundred requests at once through `nbllama serve` and a worker of its own: all end, and each in one way."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.serve_process import Door, serving

N_REQUESTS = 200


def wish(door: Door, n: int) -> dict[str, Any]:
    """The n-th request; they share beginnings in tens."""
    text = f"Hello, group {n % 20}! " + "Be brief. " * (n % 20) + f"This is number {n}."
    fields: dict[str, Any] = {"model": door.model, "max_tokens": 8 + n % 17, "stream": n % 2 == 0}
    return fields | {"messages": [{"role": "user", "content": text}]}


def played(door: Door, n: int) -> str:
    """How the n-th request ended for its client."""
    with door.open("/v1/messages", wish(door, n)) as answer:
        if n % 10 == 4:
            # It leaves after the first byte.
            answer.read(1)
            return "left"
        data = answer.read().decode()
    if n % 2:
        assert json.loads(data)["stop_reason"] in ("end_turn", "max_tokens")
    else:
        terminal = [line for line in data.splitlines() if line in ("event: message_stop", "event: error")]
        assert terminal == ["event: message_stop"]
        assert data.count("event: message_start") == 1
    return "ended"


def test_two_hundred_at_once() -> None:
    with serving("demo") as door:
        door.message(messages=[{"role": "user", "content": "hello"}])
        pid = door.request("/nbllama/status")["pid"]
        with ThreadPoolExecutor(N_REQUESTS) as clients:
            ended = Counter(clients.map(lambda n: played(door, n), range(N_REQUESTS)))
        while (status := door.request("/nbllama/status"))["requests_running"]:
            pass
        traces = door.request("/nbllama/traces")["traces"]

    assert ended == {"ended": N_REQUESTS * 9 // 10, "left": N_REQUESTS // 10}
    assert (status["pid"], status["requests"], status["requests_waiting"]) == (pid, [], 0)
    assert status["requests_total"] == N_REQUESTS + 1
    # As many as are kept, each with its ending, and nobody's request failed.
    assert len(traces) == 100
    assert {trace["ending"] for trace in traces} <= {"done", "max_tokens", "cancelled"}
