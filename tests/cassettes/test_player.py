"""What a player answers over HTTP, to our own client side and to the official SDK."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import anthropic
import pytest

from nbllama.cassettes import player as player_module
from nbllama.cassettes.player import Player
from nbllama.wire.cassette_file import Exchange
from nbllama.wire.errors import ApiError, InvalidRequest, NotFound, Overloaded
from nbllama.worker import connection
from tests.cassettes.conftest import Play
from tests.cassettes.tapes import answering, asking, call, recorded, tape, text

COUNT = "/v1/messages/count_tokens"
TOOLS = [{"name": "get_weather", "input_schema": {"type": "object"}}]


def sdk(player: Player) -> anthropic.Anthropic:
    endpoint = player.endpoint
    return anthropic.Anthropic(base_url=endpoint.base_url, api_key=endpoint.key, max_retries=0)


def names(player: Player, body: dict[str, Any]) -> list[str]:
    return [event.name for event in connection.stream_events(player.endpoint, body)]


def lesson() -> Player | Any:
    first = asking("weather?", tools=TOOLS)
    turns = [*first["messages"], {"role": "assistant", "content": [call(id="toolu_then")]}]
    result = {"type": "tool_result", "tool_use_id": "toolu_then", "content": "18"}
    second = first | {"messages": [*turns, {"role": "user", "content": [result]}]}
    return tape(
        recorded(first, answering(text("Let me look."), call())),
        recorded(second, answering(text("18 degrees."), id="msg_2")),
    )


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_loop_with_the_sdk(play: Play, stream: bool) -> None:
    client = sdk(play(lesson()))
    messages: Any = [{"role": "user", "content": "weather?"}]
    answers = []
    for _ in range(2):
        asked: Any = {"model": "m", "max_tokens": 9, "messages": messages, "tools": TOOLS}
        if stream:
            with client.messages.stream(**asked) as streaming:
                answer = streaming.get_final_message()
        else:
            answer = client.messages.create(**asked)
        answers.append(answer)
        calls = [block.id for block in answer.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": id, "content": "18"} for id in calls]
        # The text before the call was not sent back when it was recorded.
        said = {"role": "assistant", "content": answer.content[1:]}
        messages = [*messages, said, {"role": "user", "content": results}]

    assert [answer.stop_reason for answer in answers] == ["tool_use", "end_turn"]
    assert answers[0].content[1].model_dump(include={"id", "name", "input"}) == {
        "id": "toolu_recorded",
        "name": "get_weather",
        "input": {"city": "Paris"},
    }
    assert answers[1].content[0].model_dump()["text"] == "18 degrees."


def test_played_again_it_has_ids_of_its_own(play: Play) -> None:
    player = play(lesson())
    body = asking("weather?", tools=TOOLS)
    first, again = (connection.request_json(player.endpoint, "POST", "/v1/messages", body) for _ in range(2))

    assert (first["id"], first["content"][1]["id"]) == ("msg_1", "toolu_recorded")
    assert again["id"] != first["id"] and again["content"][1]["id"] != "toolu_recorded"
    assert again["content"][1]["input"] == {"city": "Paris"}


def test_counts_models_and_what_a_recording_cannot_tell(play: Play) -> None:
    player = play(tape(Exchange(COUNT, asking("hi"), answer={"input_tokens": 7}), recorded(asking("hi"), answering())))
    client = sdk(player)

    assert client.messages.count_tokens(model="m", messages=asking("hi")["messages"], extra_body={"max_tokens": 9})
    assert [model.id for model in client.models.list()] == [client.models.retrieve("m").id] == ["m"]
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(InvalidRequest, match="is replayed and no model is loaded"):
        connection.request_json(player.endpoint, "POST", "/nbllama/load", {"model": "m"})
    with pytest.raises(NotFound):
        connection.request_json(player.endpoint, "GET", "/v1/batches")
    assert connection.request_json(player.endpoint, "GET", "/nbllama/status")["replay"]["recordings"] == 2


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_answer_is_played_as_one(play: Play, stream: bool) -> None:
    answer = Overloaded("too many").body()
    player = play(tape(Exchange("/v1/messages", asking("hi"), 529, {"retry-after": "3"}, answer)))
    with pytest.raises(anthropic.APIStatusError) as raised:
        sdk(player).messages.create(**asking("hi"), stream=stream)

    assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (529, "3")
    assert "too many" in str(raised.value)
    trace = connection.request_json(player.endpoint, "GET", "/nbllama/traces")["traces"][0]
    assert (trace["ending"], trace["id"]) == ("error", raised.value.request_id)


def test_an_error_in_a_stream_is_an_error_without_one(play: Play) -> None:
    exchange = recorded(asking("hi"), answering(text("a")))
    assert exchange.record is not None
    exchange.record.events[-2:] = [[0.1, Overloaded("no cells").body("req_then")]]
    exchange.record.message = None
    player = play(tape(exchange))

    assert names(player, asking("hi"))[-1] == "error"
    with pytest.raises(Overloaded, match="no cells"):
        connection.request_json(player.endpoint, "POST", "/v1/messages", asking("hi"))


def test_a_recording_that_was_broken_off_ends_in_an_error(play: Play) -> None:
    exchange = recorded(asking("hi"), answering(text("a")))
    assert exchange.record is not None
    del exchange.record.events[3:]
    assert names(play(tape(exchange)), asking("hi"))[-2:] == ["content_block_delta", "error"]


def test_the_trace_of_a_replay_tells_that_it_is_one(play: Play) -> None:
    player = play(tape(recorded(asking("hi"), answering(text("a")), 0.5)))
    seen: dict[str, str] = {}
    body = asking("hi", model="other", metadata={"user_id": "u"})
    list(connection.stream_events(player.endpoint, body, on_headers=seen.update))
    trace = connection.request_json(player.endpoint, "GET", f"/nbllama/traces/{seen['request-id']}")

    assert (seen["nbllama-replay"], seen["nbllama-model"]) == ("lesson.json, recording 1", "m")
    assert trace["replayed"] == "lesson.json"
    assert trace["warnings"] == [
        "replayed from lesson.json, recording 1 of 1; it was recorded with m, asked for was other"
    ]
    assert trace["request"] == {**body, "stream": True}
    assert [seconds for seconds, _ in trace["events"]] == [0, 0.5, 1, 1.5, 2, 2.5]
    for view in ("tokens", "events", "timing", "page"):
        status, html = fetch(player, f"/nbllama/traces/{trace['id']}/{view}")
        assert status == 200 and "<div" in html
    assert "traces/req_" in fetch(player, "/nbllama/traces")[1]
    assert fetch(player, "/nbllama/traces-of-others")[0] == 400


def fetch(player: Player, path: str) -> tuple[int, str]:
    connected = connection.open_connection(player.endpoint, 30)
    try:
        connected.request("GET", path, headers={**player.endpoint.headers(), "accept": "text/html"})
        answer = connected.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connected.close()


def test_nobody_gets_in_without_the_secret(play: Play) -> None:
    player = play(lesson())
    connected = http.client.HTTPConnection("127.0.0.1", player.server_address[1], timeout=30)
    connected.request("GET", "/v1/models", headers={"x-api-key": "guessed"})
    answer = connected.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["type"]) == (401, "authentication_error")
    connected.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}"])
def test_what_is_no_request_is_refused(play: Play, body: bytes) -> None:
    player = play(lesson())
    connected = connection.open_connection(player.endpoint, 30)
    connected.request("POST", "/v1/messages", body=body, headers=player.endpoint.headers())
    answer = connected.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["type"]) == (400, "invalid_request_error")
    connected.close()


def test_a_client_that_leaves_ends_its_replay(play: Play) -> None:
    player = play(tape(recorded(asking("hi"), answering(text("a")), 1000.0)), speed=1)
    own_id = {connection.REQUEST_ID_HEADER: "req_own"}
    events: Any = connection.stream_events(player.endpoint, asking("hi"), own_id)
    assert next(events).name == "message_start"
    events.close()

    trace = wait_for_trace(player, "req_own")
    assert (trace["ending"], len(trace["events"]), trace["message"]) == ("cancelled", 1, None)


def wait_for_trace(player: Player, id: str) -> dict[str, Any]:
    pause = threading.Event()
    for _ in range(600):
        try:
            return connection.request_json(player.endpoint, "GET", f"/nbllama/traces/{id}")
        except ApiError:
            pause.wait(0.05)
    raise AssertionError(f"no trace {id}")


def test_speed_and_pings(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def no_wait(handler: Any, seconds: float) -> bool:
        waited.append(seconds)
        clock[0] += seconds
        return False

    clock = [time.monotonic()]
    monkeypatch.setattr(player_module.PlayerHandler, "gone_within", no_wait)
    monkeypatch.setattr(player_module, "monotonic", lambda: clock[0])
    exchange = recorded(asking("hi"), answering(text("a")))
    assert exchange.record is not None
    for timed, seconds in zip(exchange.record.events, (0, 1, 45, 45, 46, 46), strict=True):
        timed[0] = seconds

    assert names(play(tape(exchange), speed=4), asking("hi")).count("ping") == 1
    assert sum(waited) == pytest.approx(46 / 4)
    waited.clear()
    assert names(play(tape(exchange), speed=1), asking("hi")).count("ping") == 4
    assert sum(waited) == pytest.approx(46)
    waited.clear()
    assert names(play(tape(exchange), speed=0), asking("hi")).count("ping") == 0
    assert sum(waited) == 0
    connection.request_json(play(tape(exchange), speed=2).endpoint, "POST", "/v1/messages", asking("hi"))
    assert sum(waited) == pytest.approx(23)
