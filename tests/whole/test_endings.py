"""The ways a request can end, each through a real worker's socket, on a script and on the demo model.

After each: one terminal event (or one error) at the client, the slot is free, the books add up, and the request's
record says how it ended. A gate before each decode holds the engine where the test wants it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.netutil import bind_unix_socket

from nbllama.answer.loading import load_runtime
from nbllama.answer.model_sources import ModelSource
from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.engine.lane import Lane
from nbllama.engine.runtime import Row, Runtime
from nbllama.wire.errors import ApiError
from nbllama.wire.sse import ServerSentEvent
from nbllama.worker import connection
from nbllama.worker.app import WorkerServer, build_app
from nbllama.worker.lifecycle import Lifecycle
from tests.serve_process import serving

TOOL = {
    "name": "get_weather",
    "description": "Get current weather for a location",
    "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Paris"}}\n</tool_call>'
WEATHER = "What is the weather in Paris?"
PRIME = "Write a Python function to check if a number is prime"
ANSWER = "def is_prime(n):\n    return n > 1 and all(n % i for i in range(2, n))\n"
SCRIPT = {"rules": [{"when": "weather", "answer": CALL}, {"when": "prime", "answer": ANSWER}], "max_sequences": 2}


class Gate:
    """Lets the engine decode, or holds it just before its next decode."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._passes = 0
        self.n_decodes = 0
        self.waiting = threading.Event()

    def shut(self, after: int = 0) -> None:
        """Holds the engine; before that, `after` decodes pass."""
        self.waiting.clear()
        self._passes = after
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def __call__(self) -> None:
        self.n_decodes += 1
        if self._passes:
            self._passes -= 1
        elif not self._open.is_set():
            self.waiting.set()
            assert self._open.wait(60)


class Worker:
    """The worker's application over the real service, in a thread of the test."""

    def __init__(self, folder: Path, model: str) -> None:
        self.gate = Gate()
        self._socket = folder / "w.sock"
        self._settings = ServiceSettings(model=model, max_waiting=1)
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(30)
        self.endpoint = connection.Endpoint("http://localhost", socket=str(self._socket), pid=os.getpid())

    def close(self) -> None:
        self.gate.open()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)

    def begin_close(self) -> concurrent.futures.Future[None]:
        """The service stops while the engine is held; it ends when the gate opens."""
        return asyncio.run_coroutine_threadsafe(self.service.close(), self.loop)

    def stream(self, text: str, **fields: Any) -> Iterator[ServerSentEvent]:
        return connection.stream_events(self.endpoint, body(text, **fields), on_headers=self._note)

    def whole(self, text: str, **fields: Any) -> dict[str, Any]:
        """The answer as one Message."""
        return connection.request_json(self.endpoint, "POST", "/v1/messages", body(text, **fields))

    def newest(self) -> dict[str, Any]:
        """The record of the request that ended last."""
        (newest, *_) = connection.request_json(self.endpoint, "GET", "/nbllama/traces")["traces"]
        return connection.request_json(self.endpoint, "GET", f"/nbllama/traces/{newest['id']}")

    def trace(self) -> dict[str, Any]:
        """The record of the request that was sent last."""
        return connection.request_json(self.endpoint, "GET", f"/nbllama/traces/{self.request_id}")

    @property
    def lane(self) -> Lane:
        (model,) = self.service._engine._models.values()
        return model.lane

    def status(self) -> dict[str, Any]:
        return connection.request_json(self.endpoint, "GET", "/nbllama/status")

    def _note(self, headers: Any) -> None:
        self.request_id = headers["request-id"]

    def _load(self, source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime:
        runtime = load_runtime(1)(source, ctx, progress)
        decode = runtime.decode

        def gated(rows: list[Row]) -> None:
            self.gate()
            decode(rows)

        runtime.decode = gated  # type: ignore[method-assign, assignment]
        return runtime

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(self._settings, load=self._load)
        await self.service.start()
        server = WorkerServer(build_app(self.service, Lifecycle(idle_exit=None)))
        server.add_socket(bind_unix_socket(str(self._socket)))
        self._ready.set()
        await self._end.wait()
        server.stop()
        await self.service.close()
        await server.close_all_connections()


@pytest.fixture(params=["script", "demo"])
def worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    # What came before the gate was shut must be out.
    monkeypatch.setattr("nbllama.engine.loop.SECONDS_TOGETHER", 0.0)
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        script = Path(folder, "play.json")
        script.write_text(json.dumps(SCRIPT))
        worker = Worker(Path(folder), "demo" if request.param == "demo" else f"scripted:{script}")
        try:
            # Loaded: what is refused is refused with its status.
            list(worker.stream("hello", max_tokens=1))
            yield worker
        finally:
            worker.close()


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": "any",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
    } | fields


def names(events: list[ServerSentEvent]) -> list[str]:
    return [event.name for event in events]


def check_one_end(events: list[ServerSentEvent], terminal: str) -> None:
    assert [name for name in names(events) if name in ("message_stop", "error")] == [terminal]
    assert names(events)[-1] == terminal


def check_free(worker: Worker) -> None:
    """Nobody runs, nobody waits, and the books add up; soon, because a client that leaves is seen leaving."""
    wait_for(lambda: not worker.status()["requests_running"] and not worker.status()["requests_waiting"])
    worker.service.check_integrity()
    assert worker.lane.scheduler.slots.holders() == {}


GOOD_ENDS = pytest.mark.parametrize(
    ("text", "fields", "reason", "ending"),
    [
        ("hello", {}, "end_turn", "done"),
        (PRIME, {"stop_sequences": ["is_prime"]}, "stop_sequence", "stop_sequence"),
        (PRIME, {"max_tokens": 3}, "max_tokens", "max_tokens"),
        (WEATHER, {"tools": [TOOL]}, "tool_use", "tool_use"),
    ],
)


@GOOD_ENDS
def test_a_good_end(worker: Worker, text: str, fields: dict[str, Any], reason: str, ending: str) -> None:
    events = list(worker.stream(text, **fields))

    check_one_end(events, "message_stop")
    delta = next(json.loads(event.data) for event in events if event.name == "message_delta")
    assert delta["delta"]["stop_reason"] == reason
    assert worker.trace()["ending"] == ending
    check_free(worker)


@GOOD_ENDS
def test_a_good_end_of_a_whole_message(
    worker: Worker, text: str, fields: dict[str, Any], reason: str, ending: str
) -> None:
    message = worker.whole(text, **fields)

    assert message["stop_reason"] == reason
    assert worker.newest()["ending"] == ending
    assert worker.newest()["message"] == message
    check_free(worker)


def test_the_client_of_a_whole_message_goes(worker: Worker) -> None:
    worker.gate.shut(after=4)
    client = connection.open_connection(worker.endpoint)
    client.request("POST", "/v1/messages", json.dumps(body(PRIME)))
    assert worker.gate.waiting.wait(30)
    client.close()
    open_for_nobody(worker)
    assert worker.newest()["ending"] == "cancelled"


@pytest.mark.parametrize("stream", [True, False])
def test_it_is_cancelled_by_its_id(worker: Worker, stream: bool) -> None:
    """By another of the client's programs: the one that waits for the answer is told."""
    worker.gate.shut(after=4)
    client = connection.open_connection(worker.endpoint)
    client.request("POST", "/v1/messages", json.dumps(body(PRIME) | {"stream": stream}))
    assert worker.gate.waiting.wait(30)
    (running,) = connection.request_json(worker.endpoint, "GET", "/nbllama/requests")["requests"]
    cancelled = connection.request_json(worker.endpoint, "POST", f"/nbllama/requests/{running['id']}/cancel")
    worker.gate.open()
    response = client.getresponse()
    text = response.read().decode()
    client.close()

    assert cancelled == {"id": running["id"], "cancelled": True}
    assert response.status == (200 if stream else 500)
    assert text.count("the request was cancelled") == 1 and "message_stop" not in text
    check_free(worker)
    assert (worker.newest()["id"], worker.newest()["ending"]) == (running["id"], "cancelled")
    with pytest.raises(ApiError, match="no running request"):
        connection.request_json(worker.endpoint, "POST", f"/nbllama/requests/{running['id']}/cancel")


def test_the_client_goes_before_the_first_byte(worker: Worker) -> None:
    worker.gate.shut()
    client = connection.open_connection(worker.endpoint)
    client.request("POST", "/v1/messages", json.dumps(body(PRIME) | {"stream": True}))
    assert worker.gate.waiting.wait(30)
    client.close()
    open_for_nobody(worker)
    (record, *_) = connection.request_json(worker.endpoint, "GET", "/nbllama/traces")["traces"]
    assert record["ending"] == "cancelled"


def open_for_nobody(worker: Worker) -> None:
    """Once the worker has seen its client leave: what is held is the last that is computed."""
    wait_for(lambda: not worker.status()["requests_running"])
    n_decodes = worker.gate.n_decodes
    worker.gate.open()

    check_free(worker)
    assert worker.gate.n_decodes == n_decodes


def test_the_client_goes_mid_stream(worker: Worker) -> None:
    worker.gate.shut(after=4)
    stream = worker.stream(PRIME)
    for event in stream:
        if event.name == "content_block_delta":
            break
    stream.close()  # type: ignore[attr-defined]
    open_for_nobody(worker)
    assert worker.trace()["ending"] == "cancelled"


def test_the_client_goes_at_the_last_token(worker: Worker) -> None:
    """All but the end has been read when it leaves: done or cancelled, but one of them, and once."""
    stream = worker.stream(PRIME, max_tokens=5)
    for event in stream:
        if event.name == "message_delta":
            break
    stream.close()  # type: ignore[attr-defined]

    check_free(worker)
    assert worker.trace()["ending"] in ("max_tokens", "cancelled")


def test_a_stream_that_its_reader_interrupts(worker: Worker) -> None:
    """What the kernel's interrupt does: an exception passes through the reader."""
    worker.gate.shut(after=4)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(worker.stream(PRIME)) as stream:  # type: ignore[type-var]
        for event in stream:
            if event.name == "content_block_delta":
                raise KeyboardInterrupt
    open_for_nobody(worker)
    assert worker.trace()["ending"] == "cancelled"


def test_the_queue_is_full(worker: Worker) -> None:
    """All sequences and the one waiting place are taken: 529, and when to come back."""
    n_places = worker.lane.runtime.info.max_sequences + 1
    worker.gate.shut()
    clients = []
    for _ in range(n_places):
        client = connection.open_connection(worker.endpoint)
        client.request("POST", "/v1/messages", json.dumps(body(PRIME) | {"stream": True}))
        clients.append(client)
    wait_for(lambda: len(worker.status()["requests"]) == n_places)
    with pytest.raises(ApiError) as refused:
        list(worker.stream(PRIME))
    refusal = worker.newest()
    worker.gate.open()

    assert (refused.value.status, refused.value.type) == (529, "overloaded_error")
    assert refused.value.retry_after and 1 <= refused.value.retry_after <= 60
    assert (refusal["ending"], refusal["error"]["type"]) == ("error", "overloaded_error")
    for client in clients:
        text = client.getresponse().read().decode()
        client.close()
        assert text.count("event: message_stop") == 1 and "event: error" not in text
    check_free(worker)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come true")


def test_a_prompt_that_is_too_long_is_refused_before_any_work(worker: Worker) -> None:
    worker.gate.shut()
    with pytest.raises(ApiError) as refused:
        list(worker.stream("word " * 20_000))

    assert refused.value.status == 400
    assert "prompt is too long: " in str(refused.value)
    # Still shut: nothing was decoded.
    assert not worker.gate.waiting.is_set()
    check_free(worker)
    (record, *_) = connection.request_json(worker.endpoint, "GET", "/nbllama/traces")["traces"]
    assert record["ending"] == "error"


def test_what_is_no_request_leaves_a_record(worker: Worker) -> None:
    with pytest.raises(ApiError) as refused:
        list(worker.stream(PRIME, temperature="hot"))

    assert refused.value.status == 400
    check_free(worker)
    record = worker.newest()
    assert (record["ending"], record["error"]["message"]) == ("error", str(refused.value))
    assert record["request"]["temperature"] == "hot"


def test_the_server_stops(worker: Worker) -> None:
    events: list[ServerSentEvent] = []
    reader = threading.Thread(target=lambda: events.extend(worker.stream(PRIME)))
    worker.gate.shut()
    reader.start()
    assert worker.gate.waiting.wait(30)
    closing = worker.begin_close()
    wait_for(lambda: worker.service._engine._closing)
    worker.gate.open()
    closing.result(30)
    reader.join(30)

    check_one_end(events, "error")
    assert json.loads(events[-1].data)["error"]["type"] == "overloaded_error"
    check_stopped(worker, worker.request_id)


def test_the_server_stops_under_a_whole_message(worker: Worker) -> None:
    client = connection.open_connection(worker.endpoint)
    worker.gate.shut()
    client.request("POST", "/v1/messages", json.dumps(body(PRIME)))
    assert worker.gate.waiting.wait(30)
    closing = worker.begin_close()
    wait_for(lambda: worker.service._engine._closing)
    # Who comes now was never accepted: refused, and without a record, which nobody could ask for any more.
    with pytest.raises(ApiError) as refused:
        list(worker.stream(PRIME))
    worker.gate.open()
    closing.result(30)
    response = client.getresponse()
    answer = json.load(response)
    client.close()

    assert (refused.value.status, refused.value.retry_after) == (529, 1)
    assert (response.status, answer["error"]["type"]) == (529, "overloaded_error")
    check_stopped(worker, answer["request_id"])


def check_stopped(worker: Worker, request_id: str) -> None:
    """Nothing is held by the engine, whose thread has ended, and the record says why the request did."""
    assert worker.service.status()["requests"] == []
    for model in worker.service._engine._models.values():
        assert not model.lane.has_work and model.lane.scheduler.slots.holders() == {}
        model.lane.scheduler.check_integrity()
    records = worker.service.traces("local")
    assert [record["id"] for record in records].count(request_id) == 1
    record = worker.service.trace(request_id, "local")
    assert (record["ending"], record["error"]["type"]) == ("error", "overloaded_error")


@pytest.mark.parametrize("model", ["script", "demo"])
def test_the_worker_is_killed(model: str, tmp_path: Path) -> None:
    """In a process of its own: the client is told, and the next request is answered by a new worker."""
    (tmp_path / "play.json").write_text(json.dumps(SCRIPT | {"n_ctx": 8192, "prefill_s": 0.01}))
    # Its records die with it: they are in its memory alone.
    # A prefill that lasts: the kill comes while it goes on.
    long = "word " * (1500 if model == "demo" else 5000)
    with serving("demo" if model == "demo" else f"scripted:{tmp_path / 'play.json'}") as door:
        first = door.message(messages=[{"role": "user", "content": "hello"}], temperature=0)
        pid = door.request("/nbllama/status")["pid"]
        with door.open("/v1/messages", body(long) | {"stream": True}) as stream:
            lines = [stream.readline()]
            os.kill(pid, signal.SIGKILL)
            lines += stream.readlines()
        again = door.message(messages=[{"role": "user", "content": "hello"}], temperature=0)
        status, traces = door.request("/nbllama/status"), door.request("/nbllama/traces")["traces"]

    events = [line.decode().split()[1] for line in lines if line.startswith(b"event:")]
    assert [name for name in events if name in ("message_stop", "error")] == ["error"]
    assert events[-1] == "error"
    assert again["content"] == first["content"]
    assert status["pid"] != pid and status["requests"] == []
    assert [trace["message_id"] for trace in traces] == [again["id"]]


def test_counting_does_not_wait_for_the_engine(worker: Worker) -> None:
    """Twenty-four counts answer while a decode step is held, as many as a client may send at once."""
    worker.gate.shut(after=2)
    events: list[ServerSentEvent] = []
    reader = threading.Thread(target=lambda: events.extend(worker.stream(PRIME)))
    reader.start()
    assert worker.gate.waiting.wait(30)
    question = {"model": "any", "messages": [{"role": "user", "content": PRIME}], "tools": [TOOL]}
    with concurrent.futures.ThreadPoolExecutor(24) as clients:
        counting = [clients.submit(count, worker.endpoint, question) for _ in range(24)]
        counts = {future.result(60) for future in counting}
    held = not worker.gate.is_open
    worker.gate.open()
    reader.join(30)

    assert held and len(counts) == 1 and counts.pop() > 20
    check_one_end(events, "message_stop")


def count(endpoint: connection.Endpoint, question: dict[str, Any]) -> int:
    answer = connection.request_json(endpoint, "POST", "/v1/messages/count_tokens", question)
    return int(answer["input_tokens"])
