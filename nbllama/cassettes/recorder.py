"""Stands before a server: passes everything on as it comes, and writes down what was asked and answered.

The last bytes of an answer pass when the file is written, so who has them may replay. A client that leaves closes the
server's connection; an answer that is broken off, by either side, is not recorded.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from nbllama.cassettes.http_server import LocalHandler, LocalServer
from nbllama.cassettes.recorded import Heard, refusal
from nbllama.cassettes.recording import Recording
from nbllama.errors import NbllamaError
from nbllama.wire.cassette_file import COUNT_TOKENS, MESSAGES, Exchange
from nbllama.wire.errors import ApiError, NotFound, ServerFault
from nbllama.wire.records import TRACES_OFF, RequestRecord
from nbllama.worker import connection
from nbllama.worker.connection import SECRET_HEADER, Endpoint

_TRIES = 5
_PAUSE_S = 0.05
_NOT_PASSED = {
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "accept-encoding",
    "authorization",
    "x-api-key",
    SECRET_HEADER,
}
_SAID_ANEW = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date", "request-id"}


class Upstream(Protocol):
    """Where to pass things on to; `instead_of` is a server that did not answer. Raises NbllamaError."""

    def __call__(self, instead_of: Endpoint | None = None) -> Endpoint: ...


class Recorder(LocalServer):
    def __init__(self, recording: Recording, upstream: Upstream) -> None:
        self.recording = recording
        self.upstream = upstream
        super().__init__(RecorderHandler)

    def endpoint_for(self, upstream: Endpoint) -> Endpoint:
        """What clients see: another server's `nbllama-*` paths are not there, here as there."""
        own = self.endpoint
        return own if upstream.is_worker else Endpoint(own.base_url, key=own.key)


class RecorderHandler(LocalHandler):
    @property
    def recorder(self) -> Recorder:
        return cast("Recorder", self.server)

    def respond(self) -> None:
        try:
            upstream = self.recorder.upstream()
            try:
                answer, sock = self._ask(upstream)
            except OSError:
                # It ended since it was found. Nothing was sent yet, so a new one can answer.
                upstream = self.recorder.upstream(instead_of=upstream)
                answer, sock = self._ask(upstream)
        except ApiError:
            raise
        except (NbllamaError, OSError, http.client.HTTPException) as error:
            raise ServerFault(f"the server that is recorded cannot be reached: {error}", should_retry=False) from error
        with contextlib.closing(sock), answer, self._closed_when_client_leaves(sock):
            self.request_id = answer.headers.get("request-id") or self.request_id
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                self._stream(answer, upstream)
            elif self.route == "/nbllama/attach":
                self._pass(answer)
            else:
                self._whole(answer, upstream)

    def _ask(self, upstream: Endpoint) -> tuple[http.client.HTTPResponse, socket.socket]:
        asked = connection.open_connection(upstream)
        asked.connect()
        # Kept by itself: the connection forgets its socket when the answer says that it will be closed.
        sock: socket.socket = asked.sock
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED}
        headers |= {"accept-encoding": "identity", **upstream.headers()}
        asked.request(self.command, upstream.target(self.path), body=self.body or None, headers=headers)
        return asked.getresponse(), sock

    def _stream(self, answer: http.client.HTTPResponse, upstream: Endpoint) -> None:
        heard = Heard(self._request(), self.request_id)
        try:
            self.begin_chunks(_passed(answer), answer.status)
            while data := _next(answer):
                if not heard.ended and heard.feed(data):
                    self._keep(heard, upstream, answer)
                self.chunk(data)
            if heard.ended:
                self.end_chunks()
        finally:
            # Of the server, and the connection breaks here too, so who reads tells the two apart; or of the client.
            if not heard.ended:
                self.recorder.recording.broken_off()

    def _whole(self, answer: http.client.HTTPResponse, upstream: Endpoint) -> None:
        heard = Heard(self._request(), self.request_id)
        try:
            data = answer.read()
        except (OSError, http.client.HTTPException):
            if self._is_message:
                self.recorder.recording.broken_off()
            return
        with contextlib.suppress(ValueError, RecursionError):
            self._note(answer, heard, upstream, json.loads(data))
        kind = answer.headers.get("content-type", "application/json")
        self.send_bytes(data, kind, answer.status, _passed(answer))

    def _note(self, answer: http.client.HTTPResponse, heard: Heard, upstream: Endpoint, value: Any) -> None:
        """Keeps what is worth it."""
        recording, route = self.recorder.recording, self.route.removeprefix("/nbllama")
        if self.command == "GET" and route == "/v1/models" and answer.status == 200 and isinstance(value, dict):
            recording.models([model for model in value.get("data", []) if isinstance(model, dict)])
        elif self.command != "POST" or route not in (MESSAGES, COUNT_TOKENS) or not isinstance(value, dict):
            return
        elif answer.status >= 400 or route == COUNT_TOKENS:
            headers = {name.lower(): told for name, told in answer.headers.items()}
            recording.add(refusal(route, heard.request, answer.status, headers, value))
        else:
            heard.whole(value)
            self._keep(heard, upstream, answer)

    def _keep(self, heard: Heard, upstream: Endpoint, answer: http.client.HTTPResponse) -> None:
        record = None
        # Another API has no traces, and is not asked for any.
        if answer.headers.get("nbllama-model") is not None:
            record = _trace(upstream, self.request_id)
        exchange = Exchange(MESSAGES, heard.request, record=record or heard.record())
        self.recorder.recording.add(exchange)

    def _pass(self, answer: http.client.HTTPResponse) -> None:
        self.begin_chunks(_passed(answer), answer.status)
        while data := _next(answer):
            self.chunk(data)
        self.end_chunks()

    @property
    def _is_message(self) -> bool:
        return self.command == "POST" and self.route.endswith(MESSAGES)

    def _request(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @contextlib.contextmanager
    def _closed_when_client_leaves(self, upstream: socket.socket) -> Iterator[None]:
        """A stream may stay silent for long: somebody else has to watch the client meanwhile."""
        done = threading.Event()

        def watch(is_done: Callable[[], bool]) -> None:
            with contextlib.suppress(OSError, ValueError):
                while not is_done() and not self.local.closing.is_set():
                    if self.leaves_within(0.05):
                        break
                if not is_done():
                    upstream.shutdown(socket.SHUT_RDWR)

        watching = threading.Thread(target=watch, args=(done.is_set,), daemon=True)
        watching.start()
        try:
            yield
        finally:
            done.set()
            watching.join()


def _next(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(65536)
    except (OSError, http.client.HTTPException):
        return b""


def _passed(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in _SAID_ANEW}


def _trace(upstream: Endpoint, request_id: str) -> RequestRecord | None:
    """None where the server keeps no traces, or shows them to others only."""
    for _ in range(_TRIES):
        try:
            return RequestRecord.from_dict(connection.request_json(upstream, "GET", f"/nbllama/traces/{request_id}"))
        except NotFound as error:
            if TRACES_OFF in str(error):
                return None
            # It is complete a moment after the last byte of an answer that was not streamed.
            time.sleep(_PAUSE_S)
        except (NbllamaError, TypeError):
            return None
    return None
