"""The whole chain: a real `jupyter server`, its extension, a worker with a scripted model, and plain HTTP clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"
BASE_URL = "/a%40b/"
PATIENCE = 60.0
SCRIPT = {
    "rules": [
        {"when": "count", "answer": "one two three four five six seven eight", "delay_s": 0.05},
        {"when": "for ever", "answer": "on " * 2000, "delay_s": 0.05},
    ],
    "default": "Hello from the script.",
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    data: bytes
    chunks: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.data))

    @property
    def events(self) -> list[str]:
        return re.findall(r"^event: (\w+)$", self.data.decode(), re.MULTILINE)


@dataclass
class Server:
    """A Jupyter server of our own, with its own runtime folder for the worker."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def connection_file(self) -> Path:
        return self.folder / "run" / "nbllama-p1.json"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self.connect()
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        sent = {"x-api-key": TOKEN} if headers is None else headers
        connection.request(method, BASE_URL + path, body=data, headers=sent)
        return connection, connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection, response = self.open(method, path, body, headers)
        try:
            chunks = []
            while chunk := response.read1(65536):
                chunks.append(chunk)
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, b"".join(chunks), chunks)
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        return self.ask("GET", "nbllama/status").json

    def wait_for_status(self, name: str, value: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while (status := self.status())[name] != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} stays {status[name]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


def message(text: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 4000, "stream": stream, "messages": [{"role": "user", "content": text}]}


@contextlib.contextmanager
def jupyter(*arguments: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as name:
        folder = Path(name)
        (folder / "script.json").write_text(json.dumps(SCRIPT))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"]
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={BASE_URL}"]
        command += ["--ServerApp.jpserver_extensions={'nbllama': True}", f"--ServerApp.root_dir={folder}"]
        command += arguments or [f"--IdentityProvider.token={TOKEN}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment(folder), cwd=folder, stdout=log, stderr=log)
        server = Server(process, port, folder)
        try:
            wait_until_it_answers(server)
            yield server
        finally:
            end(server)


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBLLAMA_", "JUPYTER"))}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "NBLLAMA_RUNTIME_DIR": str(folder / "run"),
        "NBLLAMA_MODEL": f"scripted:{folder / 'script.json'}",
        "NBLLAMA_IDLE_EXIT": "5",
    }


def wait_until_it_answers(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urlopen(f"http://127.0.0.1:{server.port}{BASE_URL}api", timeout=5).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"the server did not start:\n{server.log()}")


def end(server: Server) -> None:
    worker = worker_pid(server)
    if server.process.poll() is None:
        server.stop()
    if worker is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)


def worker_pid(server: Server) -> int | None:
    with contextlib.suppress(OSError):
        return int(json.loads(server.connection_file.read_text())["pid"])
    return None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with jupyter() as running:
        yield running


@pytest.mark.parametrize("headers", [{"x-api-key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}])
@pytest.mark.parametrize("prefix", ["", "nbllama/"])
def test_a_message_with_either_header(server: Server, headers: dict[str, str], prefix: str) -> None:
    answer = server.ask("POST", f"{prefix}v1/messages", message("hi"), headers)
    assert answer.status == 200, answer.data
    assert answer.json["content"] == [{"type": "text", "text": "Hello from the script."}]
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["nbllama-model"] == "script"


def test_a_stream_arrives_in_several_chunks(server: Server) -> None:
    answer = server.ask("POST", "v1/messages", message("count", stream=True))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.events[0] in ("message_start", "ping")
    assert answer.events[-1] == "message_stop"
    assert len([chunk for chunk in answer.chunks if b"content_block_delta" in chunk]) >= 4


def test_counting_and_models(server: Server) -> None:
    count = server.ask("POST", "v1/messages/count_tokens", {"model": "any", "messages": message("hi")["messages"]})
    assert count.json["input_tokens"] > 0
    models = server.ask("GET", "v1/models?limit=5").json["data"]
    assert [model["id"] for model in models] == ["script"]
    assert server.ask("GET", "v1/models/script").json["id"] == "script"
    missing = server.ask("GET", "v1/models/nothing")
    assert (missing.status, missing.json["error"]["type"]) == (404, "not_found_error")


def test_a_trace_is_found_through_the_door(server: Server) -> None:
    request_id = server.ask("POST", "v1/messages", message("hi")).headers["request-id"]
    trace = server.ask("GET", f"nbllama/traces/{request_id}").json
    assert trace["id"] == request_id
    assert trace["client"] == "local"
    view = server.ask("GET", f"nbllama/traces/{request_id}/tokens")
    assert view.headers["content-type"] == "text/html; charset=utf-8"
    assert view.headers["content-security-policy"].startswith("default-src 'none'; img-src data:")
    assert view.data.startswith(b"<!doctype html>")
    listed = server.ask("GET", "nbllama/traces", headers={"x-api-key": TOKEN, "Accept": "text/html"})
    assert f"traces/{request_id}/tokens" in listed.data.decode()


@pytest.mark.parametrize(("method", "path"), [("GET", "v1/models"), ("POST", "v1/messages"), ("DELETE", "v1/nothing")])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "guess"}, {"Authorization": "Bearer guess"}])
def test_without_the_token_it_is_401_in_anthropics_shape(
    server: Server, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = server.ask(method, path, headers=headers)
    assert answer.status == 401, answer.data
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "authentication_error"
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_what_the_api_does_not_have_is_404_in_anthropics_shape(server: Server, method: str) -> None:
    answer = server.ask(method, "v1/files")
    assert answer.status == 404
    assert answer.json["error"] == {"type": "not_found_error", "message": "Not found: /a%40b/v1/files"}


def test_a_wrong_method_and_a_bad_body(server: Server) -> None:
    assert server.ask("GET", "v1/messages").json["error"]["type"] == "invalid_request_error"
    answer = server.ask("POST", "v1/messages", b"{")
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_above_32_mib_is_413(server: Server) -> None:
    answer = server.ask("POST", "v1/messages", b"x" * ((32 << 20) + 1))
    assert (answer.status, answer.json["error"]["type"]) == (413, "request_too_large")


def test_a_cookie_needs_its_xsrf_token(server: Server) -> None:
    cookies = log_in(server)
    session = "; ".join(f"{name}={value}" for name, value in cookies.items())
    refused = server.ask("POST", "v1/messages", message("hi"), {"Cookie": session})
    assert (refused.status, refused.json["error"]["type"]) == (403, "permission_error")
    # A wrong key beside it must not make the session look as if it had sent a token.
    refused = server.ask("POST", "v1/messages", message("hi"), {"Cookie": session, "x-api-key": "guess"})
    assert refused.status == 403
    answer = server.ask("POST", "v1/messages", message("hi"), {"Cookie": session, "X-XSRFToken": cookies["_xsrf"]})
    assert answer.status == 200


def log_in(server: Server) -> dict[str, str]:
    """The cookies of a browser that came with the token: its session, and the `_xsrf` that goes with it."""
    session = cookies_of(server, f"login?token={TOKEN}", {})
    session.pop("_xsrf", None)
    # Any page of Jupyter sets it, this one too.
    return session | cookies_of(server, "no-such-page", session)


def cookies_of(server: Server, path: str, sent: dict[str, str]) -> dict[str, str]:
    header = "; ".join(f"{name}={value}" for name, value in sent.items())
    connection, response = server.open("GET", path, headers={"Cookie": header})
    pairs = [value.split(";")[0].split("=", 1) for value in response.headers.get_all("Set-Cookie") or []]
    connection.close()
    return {name: value for name, value in pairs}


def test_a_client_that_leaves_frees_its_slot(server: Server) -> None:
    body = json.dumps(message("for ever", stream=True)).encode()
    head = f"POST {BASE_URL}v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: {TOKEN}"
    head += f"\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        while b"content_block_delta" not in (received := client.recv(65536)):
            assert received
        assert server.status()["requests_running"] == 1
    server.wait_for_status("requests_running", 0)


def test_a_worker_killed_mid_stream_ends_it_with_one_error_and_the_next_request_works(server: Server) -> None:
    connection, response = server.open("POST", "v1/messages", message("for ever", stream=True))
    data = b""
    while b"content_block_delta" not in data:
        data += response.read1(65536)
    os.kill(server.status()["pid"], signal.SIGKILL)
    data += response.read()
    connection.close()
    answer = Answer(response.status, {}, data)
    assert answer.events.count("error") == 1
    assert answer.events[-1] == "error"
    assert "message_stop" not in answer.events
    body = json.loads(data.decode().rsplit("event: error\ndata: ", 1)[1])
    assert (body["error"]["type"], body["request_id"]) == ("api_error", response.headers["request-id"])
    assert server.ask("POST", "v1/messages", message("hi")).status == 200


def test_nothing_is_started_for_those_who_may_not_ask_and_a_stopped_server_detaches() -> None:
    with jupyter() as server:
        assert server.ask("POST", "v1/messages", message("hi"), {}).status == 401
        assert server.ask("POST", "v1/messages", message("hi"), {"x-api-key": "guess"}).status == 401
        status = server.status()
        assert (status["pid"], status["models"], status["server"]["needs_token"]) == (None, [], False)
        assert not server.connection_file.exists()
        assert server.ask("POST", "v1/messages", message("hi")).status == 200
        assert server.status()["attached"] == 1
        server.stop()
        assert attached_to_worker(server) == 0


def attached_to_worker(server: Server) -> int:
    """How many are attached, asked of the worker itself; waits until it is none."""
    code = (
        "import time\nfrom nbllama.worker import connection\n"
        "endpoint, attached = connection.find(), 0\n"
        # Where this machine is slow, it has ended by now, as a worker does that nobody is attached to.
        "for _ in range(100 if endpoint else 0):\n"
        "    attached = connection.request_json(endpoint, 'GET', '/nbllama/status')['attached']\n"
        "    if not attached: break\n"
        "    time.sleep(0.05)\n"
        "print(attached)"
    )
    run = [sys.executable, "-c", code]
    return int(subprocess.run(run, env=environment(server.folder), capture_output=True, check=True).stdout)


def test_a_server_without_a_token_says_how_to_get_one() -> None:
    with jupyter("--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True") as server:
        assert server.status()["server"]["needs_token"] is True
        warnings = [line for line in server.log().splitlines() if "has no token" in line]
        assert len(warnings) == 1
        assert "--IdentityProvider.token=" in warnings[0]
