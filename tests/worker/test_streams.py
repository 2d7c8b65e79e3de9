"""The ways a stream ends, seen from both sides."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from nbllama.wire.errors import Overloaded
from nbllama.worker import connection
from nbllama.worker.errors import WorkerDied, WorkerError
from tests.worker.conftest import WorkerThread
from tests.worker.fake_service import FLOOD_EVENTS


def names(worker: WorkerThread, model: str) -> list[str]:
    return [event.name for event in connection.stream_events(worker.endpoint, {"model": model})]


def test_done(worker: WorkerThread) -> None:
    seen: dict[str, str] = {}
    events = list(connection.stream_events(worker.endpoint, {"model": "done"}, on_headers=seen.update))

    assert [event.name for event in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert json.loads(events[2].data)["delta"]["text"] == "Hello"
    assert seen["nbllama-model"] == "fake"
    worker.wait_until(lambda: worker.lifecycle.running == 0)
    assert worker.service.answers[0].cancels == 0


def test_an_event_is_seen_before_the_next_one_exists(worker: WorkerThread) -> None:
    events = connection.stream_events(worker.endpoint, {"model": "gate"})
    until_text = [next(events).name for _ in range(3)]
    worker.call(worker.service.gate.set)

    assert until_text[-1] == "content_block_delta"
    assert [event.name for event in events][-1] == "message_stop"


def test_client_gone_in_the_middle(worker: WorkerThread) -> None:
    events = connection.stream_events(worker.endpoint, {"model": "endless"})
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]  # a generator
    worker.wait_until(lambda: worker.lifecycle.running == 0)

    [answer] = worker.service.answers
    assert answer.cancels == 1
    assert answer.closed


def test_client_gone_while_it_waits_for_a_whole_message(worker: WorkerThread) -> None:
    link = connection.open_connection(worker.endpoint, 10)
    link.request("POST", "/v1/messages", json.dumps({"model": "endless"}))
    worker.wait_until(lambda: bool(worker.service.answers) and worker.service.answers[0].n_sent > 0)
    link.close()
    worker.wait_until(lambda: worker.lifecycle.running == 0)

    assert worker.service.answers[0].cancels == 1
    assert worker.service.answers[0].closed


def test_client_gone_before_the_answer_was_accepted(worker: WorkerThread) -> None:
    link = connection.open_connection(worker.endpoint, 10)
    link.request("POST", "/v1/messages", json.dumps({"model": "late"}))
    worker.wait_until(lambda: worker.lifecycle.running == 1)
    link.close()
    worker.wait_until(lambda: worker.lifecycle.running == 0)

    assert worker.service.cancelled_early == 1


def test_an_exception_at_the_reader_closes_the_stream(worker: WorkerThread) -> None:
    with pytest.raises(KeyboardInterrupt):
        for event in connection.stream_events(worker.endpoint, {"model": "endless"}):
            if event.name == "content_block_delta":
                raise KeyboardInterrupt
    worker.wait_until(lambda: worker.lifecycle.running == 0)

    assert worker.service.answers[0].cancels == 1


def test_a_slow_reader_holds_back_its_own_answer_only(worker: WorkerThread) -> None:
    body = json.dumps({"model": "flood", "stream": True}).encode()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(worker.socket))
        slow.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        worker.wait_until(lambda: bool(worker.service.answers) and worker.service.answers[0].n_sent > 1)

        assert names(worker, "done")[-1] == "message_stop"
        assert worker.service.answers[0].n_sent < FLOOD_EVENTS
        slow.settimeout(10)
        received = b""
        while b"event: message_stop" not in received[-4096:]:
            received += slow.recv(1 << 20)

    assert received.count(b"event: content_block_delta") == FLOOD_EVENTS + 1


def test_a_slow_reader_that_leaves(worker: WorkerThread) -> None:
    events = connection.stream_events(worker.endpoint, {"model": "flood"})
    next(events)
    events.close()  # type: ignore[attr-defined]  # a generator
    worker.wait_until(lambda: worker.lifecycle.running == 0)

    assert worker.service.answers[0].closed
    assert worker.service.answers[0].cancels == 1


def test_an_error_event_is_the_last(worker: WorkerThread) -> None:
    assert names(worker, "bug")[-1] == "error"


def test_ten_streams_at_once(worker: WorkerThread) -> None:
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(names(worker, "gate"))) for _ in range(10)]
    for thread in threads:
        thread.start()
    worker.wait_until(lambda: worker.lifecycle.running == 10)
    worker.call(worker.service.gate.set)
    for thread in threads:
        thread.join(10)

    assert len(results) == 10
    assert all(events[-1] == "message_stop" for events in results)


def test_a_refused_stream_is_an_exception(worker: WorkerThread) -> None:
    with pytest.raises(Overloaded):
        next(connection.stream_events(worker.endpoint, {"model": "busy"}))


def test_draining_refuses_new_requests_and_finishes_running_ones(worker: WorkerThread) -> None:
    events = connection.stream_events(worker.endpoint, {"model": "gate"})
    next(events)

    assert connection.request_json(worker.endpoint, "POST", "/nbllama/stop", {})["stopping"] is True
    for work in (
        lambda: list(connection.stream_events(worker.endpoint, {"model": "done"})),
        lambda: connection.attach(worker.endpoint),
    ):
        with pytest.raises(Overloaded) as caught:
            work()
        assert caught.value.status == 529
    worker.call(worker.service.gate.set)
    assert [event.name for event in events][-1] == "message_stop"


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"], ids=["cut off", "ended too early"])
def test_a_stream_without_its_terminal_event_is_worker_died(worker: WorkerThread, end: bytes) -> None:
    server = socket.socket(socket.AF_UNIX)
    path = str(worker.socket.with_name("cut.sock"))
    server.bind(path)
    server.listen()

    def cut() -> None:
        link, _ = server.accept()
        while b"}" not in link.recv(65536):
            pass
        link.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        link.sendall(b'1c\r\nevent: ping\ndata: {"a":1}\n\n\r\n')
        link.sendall(end)
        link.close()

    thread = threading.Thread(target=cut)
    thread.start()
    events = connection.stream_events(connection.Endpoint("http://localhost", socket=path, pid=7), {"model": "x"})
    with pytest.raises(WorkerDied, match="pid 7"):
        list(events)
    thread.join(10)
    server.close()


def test_nobody_there(worker: WorkerThread) -> None:
    nobody = connection.Endpoint("http://localhost", socket=str(worker.socket) + ".no", pid=7)

    with pytest.raises(WorkerError, match="no answer from the worker"):
        connection.request_json(nobody, "GET", "/nbllama/status")
    with pytest.raises(WorkerError, match="no answer from the worker"):
        next(connection.stream_events(nobody, {}))
    with pytest.raises(WorkerError, match="cannot attach"):
        connection.attach(nobody)


def test_attach_counts_from_its_return_to_its_close(worker: WorkerThread) -> None:
    with connection.attach(worker.endpoint) as attachment:
        assert worker.lifecycle.attached == 1
        assert attachment.alive
        assert connection.request_json(worker.endpoint, "POST", "/nbllama/stop", {"if_idle": True})["stopping"] is False

    assert not attachment.alive
    assert connection.request_json(worker.endpoint, "POST", "/nbllama/stop", {"if_idle": True})["stopping"] is True
