"""What a door sends now has the shape of what was recorded, also while it counts."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nbllama.wire.events import ContentBlockDelta, Event, Ping
from tests.answer.context_view import N_COUNTS, bodies
from tests.recordings.record_sse import REQUESTS, script_in, stream_of
from tests.serve_process import TOKEN, Door, serving
from tests.wire.test_recordings import events_of, recorded


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with serving(script_in(tmp_path_factory.mktemp("script"))) as door:
        yield door


def shape(events: list[Event]) -> list[Any]:
    """Without pings, deltas joined: how many tokens come at once is chance. Of a usage only the sum of the prompt."""
    shaped: list[Any] = []
    for event in events:
        if isinstance(event, Ping):
            continue
        if isinstance(event, ContentBlockDelta):
            kind, text = event.delta["type"], next(str(v) for k, v in event.delta.items() if k != "type")
            if shaped and shaped[-1][0] == kind:
                shaped[-1] = (kind, shaped[-1][1] + text)
            else:
                shaped.append((kind, text))
        else:
            shaped.append((event.name, without_counts(event.data())))
    return shaped


def without_counts(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    plain = {name: without_counts(part) for name, part in value.items()}
    if "input_tokens" in value:
        cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
        plain |= dict.fromkeys(cached) | {"input_tokens": sum(value[name] for name in ("input_tokens", *cached))}
    return plain


@pytest.mark.parametrize("name", REQUESTS)
def test_a_live_stream_has_the_recorded_shape(door: Door, name: str) -> None:
    assert shape(events_of(stream_of(door, name))) == shape(events_of(recorded(name)))


def test_what_changes_nothing_is_named_with_every_kind_of_answer(door: Door) -> None:
    body = {"model": "any", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "colour": "red"}
    edits: dict[str, Any] = {"context_management": {"edits": []}}
    for path, fields in (("", {}), ("", {"stream": True}), ("/count_tokens", {})):
        headers = {"x-api-key": TOKEN, "anthropic-beta": "new-2027-01-01,pdfs-2024-09-25", "anthropic-version": "2099"}
        request = urllib.request.Request(
            f"{door.url}/v1/messages{path}?beta=true", json.dumps(body | edits | fields).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["nbllama-ignored"] == "colour, context_management, anthropic-beta (new-2027-01-01)"
            assert answer.headers["nbllama-model"] == "recorded"
            assert answer.headers["request-id"].startswith("req_")
            said = answer.read()
        assert (b'"context_management"' in said) and (b'"applied_edits"' in said) == (not path)
    trace = door.request("/nbllama/traces")["traces"][0]
    assert door.request(f"/nbllama/traces/{trace['id']}")["ignored"][-1] == "anthropic-beta (new-2027-01-01)"


def test_24_counts_at_once_leave_a_stream_as_it_is(door: Door) -> None:
    def count(body: dict[str, Any]) -> int:
        return int(door.request("/v1/messages/count_tokens?beta=true", body)["input_tokens"])

    def evaluated(body: dict[str, Any]) -> int:
        usage = door.request("/v1/messages", body | {"max_tokens": 0})["usage"]
        return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])

    with ThreadPoolExecutor(N_COUNTS + 1) as pool:
        streaming = pool.submit(stream_of, door, "text")
        counts = list(pool.map(count, bodies()))

    assert shape(events_of(streaming.result())) == shape(events_of(recorded("text")))
    assert counts == [evaluated(body) for body in bodies()]
