"""A worker that does as it is told, on a Unix socket or a port: what it answers is a list of steps, not a model."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from nbllama._version import __version__
from nbllama.wire.answers import new_message
from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
)
from nbllama.wire.sse import encode
from nbllama.worker.connection import PROTOCOL

USAGE = {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 2}
DIE, HOLD = "die", "hold"
Step = bytes | str | Event
"""Bytes or an event to send; DIE closes everything without an end, HOLD waits until the client goes."""

MODEL = {
    "id": "fake",
    "state": "loaded",
    "default": True,
    "n_ctx": 512,
    "n_params": 4_800_000,
    "size_bytes": 5_000_000,
    "error": None,
    "adapter": {"name": "fake-tools", "size_bytes": 6_532_032, "base_sha256": "c0ffee12" * 8},
    "hint": "a real one is to be had",
    "warnings": ["its build is worked around"],
}


RUNNING = [
    {"id": "req_1", "message_id": "msg_1", "model": "fake", "stream": True, "state": "prefill", "prefill": 0.25},
    {"id": "req_2", "message_id": "msg_2", "model": "fake", "stream": True, "state": "running"},
]


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def text_answer(*pieces: str) -> list[Step]:
    """A whole answer of one text block."""
    deltas = [ContentBlockDelta(0, {"type": "text_delta", "text": piece}) for piece in pieces]
    return [*start_of_text(), *deltas, *end_of_block(0), *end("end_turn")]


def start() -> list[Step]:
    return [MessageStart(new_message("msg_fake", "fake", USAGE | {"output_tokens": 0}))]


def start_of_text() -> list[Step]:
    return [*start(), ContentBlockStart(0, {"type": "text", "text": ""})]


def end_of_block(index: int) -> list[Step]:
    return [ContentBlockStop(index)]


def end(stop_reason: str) -> list[Step]:
    return [MessageDelta(stop_reason, None, USAGE), MessageStop()]


def text(piece: str) -> Step:
    return ContentBlockDelta(0, {"type": "text_delta", "text": piece})


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    worker: FakeWorker

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.worker.connections.append(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A connection that die() closed under its handler.
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)
        request.close()


class _UnixServer(_Server):
    address_family = socket.AF_UNIX


class FakeWorker:
    """Published in `folder`, or on a port of `127.0.0.1` and not published. Use as a context manager."""

    def __init__(self, folder: Path | None, *, name: str = "w") -> None:
        self.steps: list[Step] = text_answer("Hello", " there")
        self.next_answers: list[list[Step]] = []
        """Taken one for each request; when they are used up, `steps` is the answer."""
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.record: dict[str, Any] | None = None
        self.received: list[Received] = []
        self.loading: list[float] = []
        """How far the model of a load is, each time that status is asked; it is there when there is no more."""
        self.connections: list[socket.socket] = []
        self.attached = 0
        self.client_gone = threading.Event()
        self.ended = threading.Event()
        self._folder = folder
        self._socket = str(folder / f"{name}.sock") if folder is not None else None
        self._server = self._listen()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def _listen(self) -> _Server:
        server: _Server
        if self._socket is not None:
            server = _UnixServer(self._socket, _Handler)  # type: ignore[arg-type]  # a path, for this family
        else:
            server = _Server(("127.0.0.1", 0), _Handler)
        server.worker = self
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeWorker:
        self._thread.start()
        if self._folder is not None:
            self._publish(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Everything is closed at once, nothing is said. May be called again."""
        self.ended.set()
        self.stop_listening()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop_listening(self) -> None:
        """Accepts nothing new; what is attached stays so."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            if self._socket is not None:
                os.unlink(self._socket)

    def requests(self, path: str) -> list[Received]:
        return [received for received in self.received if received.path.partition("?")[0] == path]

    def _publish(self, folder: Path) -> None:
        info = {"pid": os.getpid(), "protocol": PROTOCOL, "version": __version__, "socket": self._socket}
        file = folder / f"nbllama-p{PROTOCOL}.json"
        file.write_text(json.dumps(info))
        file.chmod(0o600)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def worker(self) -> FakeWorker:
        return self.server.worker

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._note({})
        path = self.path
        if path == "/nbllama/attach":
            return self._attach()
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "/nbllama/handshake": lambda: {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid()},
            "/nbllama/status": self._status,
            "/nbllama/requests": lambda: {"requests": RUNNING},
            "/nbllama/traces": lambda: {"traces": [_summary(self.worker.record)] if self.worker.record else []},
            "/v1/models": lambda: {"data": [{"id": "fake", "type": "model"}], "has_more": False},
        }
        record = self.worker.record
        if record is not None and path in (
            f"/nbllama/traces/{record['id']}",
            f"/nbllama/traces/{record['message_id']}",
        ):
            return self._json(200, record)
        if path in answers:
            return self._json(200, answers[path]())
        self._json(404, {"type": "error", "error": {"type": "not_found_error", "message": f"Not found: {path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        self._note(body)
        if self.worker.refusal is not None:
            return self._json(*self.worker.refusal)
        if not self.path.partition("?")[0].endswith("/v1/messages"):
            if self.path == "/nbllama/tokenize":
                return self._json(200, {"tokens": [{"id": 1, "piece": word} for word in body["text"].split()]})
            if self.path == "/nbllama/load":
                while self.worker.loading:
                    threading.Event().wait(0.01)
                return self._json(200, MODEL | {"id": body["model"]})
            return self._json(200, {"input_tokens": 7, "stopping": True})
        if body.get("stream"):
            return self._stream()
        message = new_message("msg_fake", "fake", USAGE) | {"stop_reason": "end_turn"}
        self._json(200, message | {"content": [{"type": "text", "text": "Hello"}]})

    def _note(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.worker.received.append(Received(self.command, self.path, headers, body))

    def _status(self) -> dict[str, Any]:
        counts = {"requests_total": 3, "requests_running": 1, "requests_waiting": 0}
        loading = [MODEL | {"id": "big", "state": "loading", "load": n} for n in self.worker.loading[:1]]
        del self.worker.loading[:1]
        return {
            "models": [MODEL, *loading],
            "pid": os.getpid(),
            "version": __version__,
            "rss_bytes": 7e6,
            "uptime_s": 61,
            **counts,
        }

    def _json(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("request-id", "req_fake")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("request-id", "req_fake")
        self.send_header("nbllama-model", "fake")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _attach(self) -> None:
        self._begin("text/plain")
        self._chunk(b"\n")
        self.worker.attached += 1
        self._hold()
        self.close_connection = True

    def _stream(self) -> None:
        self._begin("text/event-stream; charset=utf-8")
        for step in self.worker.next_answers.pop(0) if self.worker.next_answers else self.worker.steps:
            if step == DIE:
                self.worker.die()
                return
            if step == HOLD:
                if self._hold():
                    self.worker.client_gone.set()
                self.close_connection = True
                return
            self._chunk(step if isinstance(step, bytes) else encode(step))  # type: ignore[arg-type]  # no other str
        self._chunk(b"")

    def _hold(self) -> bool:
        """Until the client goes (True) or this worker dies."""
        while not self.worker.ended.is_set():
            ready, _, _ = select.select([self.connection], [], [], 0.02)
            if ready:
                return not self.worker.ended.is_set() and self.connection.recv(1) == b""
        return False


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    kept = {name: record[name] for name in ("id", "message_id", "model", "created", "ending")}
    counts = {"prompt_tokens": 7, "cached_tokens": 2, "output_tokens": 3}
    return kept | counts | {"total_s": 0.5, "tokens_per_second": None}
