"""What the worker answers: shapes, headers, statuses."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllama._version import __version__
from nbllama.wire.errors import ApiError, InvalidRequest
from nbllama.worker import connection
from nbllama.worker.endpoint import MAX_BODY_BYTES
from tests.worker.conftest import WorkerThread

Answer = tuple[int, dict[str, str], bytes]


def ask(
    worker: WorkerThread, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    link = connection.open_connection(worker.endpoint, 10)
    try:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        link.request(method, path, data, headers or {})
        response = link.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        link.close()


def error_of(answer: Answer) -> dict[str, Any]:
    """The error of an answer whose whole shape was checked."""
    _, headers, data = answer
    body = json.loads(data)

    assert body["type"] == "error"
    assert body["request_id"] == headers["request-id"]
    assert headers["content-type"] == "application/json"
    error: dict[str, Any] = body["error"]
    return error


def test_a_message_in_one_piece(worker: WorkerThread) -> None:
    status, headers, data = ask(worker, "POST", "/v1/messages", {"model": "done", "ignored": ["a", "b"]})

    assert status == 200
    assert json.loads(data)["content"] == [{"type": "text", "text": "Hello"}]
    assert headers["nbllama-model"] == "fake"
    assert headers["nbllama-ignored"] == "a, b"
    assert headers["request-id"] == worker.service.answers[0].request_id


def test_a_stream_has_its_headers_and_ends_once(worker: WorkerThread) -> None:
    status, headers, data = ask(worker, "POST", "/v1/messages", {"model": "done", "stream": True})
    events = [line.removeprefix("event: ") for line in data.decode().splitlines() if line.startswith("event: ")]

    assert status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["nbllama-model"] == "fake"
    assert "nbllama-ignored" not in headers
    assert events[0] == "message_start"
    assert events.count("message_stop") + events.count("error") == 1
    assert worker.service.answers[0].cancels == 0


def test_a_model_name_that_no_header_can_carry(worker: WorkerThread) -> None:
    _, headers, _ = ask(worker, "POST", "/v1/messages", {"model": "umlaut"})

    assert headers["nbllama-model"] == "f?ke"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/v1/messages", {"model": "unknown"}, 404, "not_found_error"),
        ("POST", "/v1/messages", {"model": "busy"}, 529, "overloaded_error"),
        ("POST", "/v1/messages", {"model": "broken"}, 500, "api_error"),
        ("POST", "/v1/nothing", {}, 404, "not_found_error"),
        ("GET", "/elsewhere", None, 404, "not_found_error"),
        ("GET", "/v1/messages", None, 405, "invalid_request_error"),
        ("DELETE", "/v1/models", None, 405, "invalid_request_error"),
        ("BREW", "/v1/models", None, 405, "invalid_request_error"),
        ("GET", "/v1/models/nobody", None, 404, "not_found_error"),
        ("GET", "/v1/models?limit=0", None, 400, "invalid_request_error"),
        ("GET", "/nbllama/traces/req_2", None, 404, "not_found_error"),
        ("POST", "/nbllama/load", {}, 400, "invalid_request_error"),
        ("POST", "/nbllama/load", {"model": "m", "ctx": True}, 400, "invalid_request_error"),
        ("POST", "/nbllama/tokenize", b"{", 400, "invalid_request_error"),
    ],
)
def test_errors_have_the_shape_of_the_api(
    worker: WorkerThread, method: str, path: str, body: Any, status: int, kind: str
) -> None:
    answer = ask(worker, method, path, body)

    assert answer[0] == status
    assert error_of(answer)["type"] == kind


def test_an_error_steers_retries(worker: WorkerThread) -> None:
    _, headers, _ = ask(worker, "POST", "/v1/messages", {"model": "busy"})

    assert headers["retry-after"] == "3"


def test_a_bug_tells_nothing_of_the_prompt(worker: WorkerThread, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(worker, "POST", "/v1/messages", {"model": "broken"})
    _, _, stream = ask(worker, "POST", "/v1/messages", {"model": "bug", "stream": True})

    assert error_of(answer)["message"] == "Internal server error"
    assert stream.count(b"event: error\n") == 1
    assert b"message_stop" not in stream
    assert b"secret prompt" not in stream
    assert "RuntimeError" in caplog.text
    assert "secret prompt" not in caplog.text


def test_a_body_above_the_limit(worker: WorkerThread) -> None:
    answer = ask(worker, "POST", "/v1/messages", b" " * (MAX_BODY_BYTES + 1))

    assert answer[0] == 413
    assert error_of(answer)["type"] == "request_too_large"
    assert not worker.service.answers


def test_a_body_in_chunks_above_the_limit(worker: WorkerThread) -> None:
    chunks = (b" " * (1 << 20) for _ in range(33))

    assert error_of(ask(worker, "POST", "/v1/messages", chunks))["type"] == "request_too_large"


def test_a_body_at_the_limit_is_read(worker: WorkerThread) -> None:
    status, _, data = ask(worker, "POST", "/v1/messages/count_tokens", b" " * MAX_BODY_BYTES)

    assert (status, json.loads(data)) == (200, {"input_tokens": MAX_BODY_BYTES})


def test_a_compressed_body(worker: WorkerThread) -> None:
    answer = ask(worker, "POST", "/v1/messages", b"x", {"content-encoding": "gzip"})

    assert answer[0] == 400
    assert error_of(answer)["details"] == {"error_code": "request_body_encoding_unsupported"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01nonsense\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{}{}{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999999999999\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000,
    ],
)
def test_bad_http_harms_nobody_else(worker: WorkerThread, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(worker.socket))
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(10)
        try:
            while raw.recv(4096):
                pass
        except ConnectionResetError:
            pass

    assert ask(worker, "GET", "/nbllama/handshake")[0] == 200
    worker.wait_until(lambda: worker.lifecycle.running == 0)


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_warm_up(worker: WorkerThread, path: str) -> None:
    status, headers, data = ask(worker, "HEAD", path)

    assert (status, data) == (200, b"")
    assert headers["request-id"].startswith("req_")


def test_models(worker: WorkerThread) -> None:
    first = connection.request_json(worker.endpoint, "GET", "/v1/models?limit=1")
    second = connection.request_json(worker.endpoint, "GET", "/v1/models?after_id=fake")
    back = connection.request_json(worker.endpoint, "GET", "/v1/models?before_id=other&limit=5")

    assert first == {
        "data": [{"id": "fake", "type": "model"}], "has_more": True, "first_id": "fake", "last_id": "fake"
    }  # fmt: skip
    assert (second["has_more"], [model["id"] for model in second["data"]]) == (False, ["other"])
    assert (back["has_more"], [model["id"] for model in back["data"]]) == (False, ["fake"])
    assert connection.request_json(worker.endpoint, "GET", "/v1/models/a%2Fb")["id"] == "a/b"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=-1", "limit: Input should be greater than or equal to 1"),
        ("limit=1001", "limit: Input should be less than or equal to 1000"),
        ("limit=x", "limit: Input should be a valid integer, unable to parse string as an integer"),
        ("limit=" + "9" * 5000, "limit: Input should be a valid integer, unable to parse string as an integer"),
        ("after_id=gone", "after_id: no model has this id"),
        ("before_id=gone", "before_id: no model has this id"),
        ("lifecycle[]=new", "lifecycle: Input should be 'active', 'deprecated' or 'retired'"),
    ],
)
def test_pages_that_are_none(worker: WorkerThread, query: str, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        connection.request_json(worker.endpoint, "GET", f"/v1/models?{query}")

    assert refused.value.message == text


def test_a_lenient_page_begins_again(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.service, "lenient", True)
    page = connection.request_json(worker.endpoint, "GET", "/v1/models?after_id=gone&before_id=gone&limit=1000")

    assert [model["id"] for model in page["data"]] == ["fake", "other"]


def test_our_own_endpoints(worker: WorkerThread) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return connection.request_json(worker.endpoint, "POST", path, body)

    assert post("/nbllama/load", {"model": "m", "ctx": 99}) == {"id": "m", "state": "loaded", "n_ctx": 99}
    assert post("/nbllama/unload", {"model": "m"})["state"] == "unloaded"
    assert post("/nbllama/tokenize", {"text": "é"}) == {"tokens": [{"id": 1, "piece": "é"}]}
    for path, id in (("/nbllama/format", "fake"), ("/nbllama/format?model=other", "other")):
        assert connection.request_json(worker.endpoint, "GET", path)["id"] == id
    trace = connection.request_json(worker.endpoint, "GET", "/nbllama/traces/req_1")
    assert trace == {"id": "req_1", "client": "local"}


def test_the_status_tells_what_the_terminal_shows(worker: WorkerThread) -> None:
    status = connection.request_json(worker.endpoint, "GET", "/nbllama/status")

    assert {"pid", "version", "protocol", "models", "rss_bytes", "uptime_s", "requests_total", "log"} <= set(status)
    assert status["rss_bytes"] > 1 << 20


def test_whose_request_it_is(worker: WorkerThread) -> None:
    ask(worker, "POST", "/v1/messages", {"model": "done"})
    ask(worker, "POST", "/v1/messages", {"model": "done"}, {"nbllama-client": "ada"})

    assert worker.service.clients == ["local", "ada"]
    assert json.loads(ask(worker, "GET", "/nbllama/traces", None, {"nbllama-client": "ada"})[2]) == {
        "traces": [{"id": "req_1", "client": "ada"}]
    }


def test_a_secret_is_asked_for_everywhere(runtime: Path) -> None:
    with WorkerThread(runtime, secret="s3cret") as worker:
        assert ask(worker, "GET", "/nbllama/handshake")[0] == 401
        wrong = ask(worker, "GET", "/nowhere", None, {"nbllama-secret": "wröng"})
        assert error_of(wrong)["type"] == "authentication_error"
        assert connection.request_json(worker.endpoint, "GET", "/nbllama/handshake")["protocol"] == 1


def test_errors_come_back_as_exceptions(worker: WorkerThread) -> None:
    with pytest.raises(ApiError, match="model: nobody") as caught:
        connection.request_json(worker.endpoint, "GET", "/v1/models/nobody")

    assert caught.value.status == 404


def test_a_handshake_is_with_the_one_that_was_meant(worker: WorkerThread) -> None:
    meant = replace(worker.endpoint, info={"version": __version__})

    assert connection.handshake(meant) is not None
    assert connection.handshake(replace(meant, pid=1)) is None
    assert connection.handshake(replace(meant, info={"version": "0"})) is None


def test_many_requests_on_one_connection(worker: WorkerThread) -> None:
    link = connection.open_connection(worker.endpoint, 10)
    ids = set()
    for _ in range(3):
        link.request("GET", "/nbllama/handshake")
        response: http.client.HTTPResponse = link.getresponse()
        response.read()
        ids.add(response.getheader("request-id"))
    link.close()

    assert len(ids) == 3
