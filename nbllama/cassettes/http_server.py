"""HTTP for who knows the secret, in a thread of this process: the standard library's server, a thread a request.

On loopback only, on every system alike. Each answer closes its connection, as the clients of a worker expect.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from nbllama.wire.answers import new_id
from nbllama.wire.errors import ApiError, AuthenticationFailed, InvalidRequest, RequestTooLarge, ServerFault
from nbllama.worker.api_key import matches, presented_keys
from nbllama.worker.connection import REQUEST_ID_HEADER, SECRET_HEADER, Endpoint

MAX_BODY = 32 << 20
"""Bytes of a request body, as the Anthropic API allows them."""
_SILENCE = 120.0
"""Seconds that a client may take to send its request."""
_LOOK = 0.5
"""Seconds after which one that waits looks whether the server is to end."""


class LocalServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """`start` serves in the background, `close` ends all answers. `endpoint` is for clients of this process or user."""

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 128

    def __init__(self, handler: type[LocalHandler]) -> None:
        self.secret = secrets.token_hex(24)
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{self.server_address[1]}", key=self.secret, pid=os.getpid())

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.1,), name="nbllama-cassette", daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error, and a notebook no log."""


class LocalHandler(BaseHTTPRequestHandler):
    """One request. Subclasses answer in `respond`; what it raises is told in the API's shape."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _SILENCE

    def respond(self) -> None:
        raise NotImplementedError

    @property
    def local(self) -> LocalServer:
        return cast("LocalServer", self.server)

    @property
    def route(self) -> str:
        """The path without its query."""
        return urlsplit(self.path).path

    @property
    def client(self) -> str:
        """Whose request it is, as the door says."""
        return unquote(self.headers.get("nbllama-client") or "local")

    def _take(self) -> None:
        self.close_connection = True
        self.begun = False
        self.request_id = self.headers.get(REQUEST_ID_HEADER) or new_id("req")
        try:
            self._check_secret()
            self.body = self._read_body()
            self.respond()
        except OSError:
            # The client has gone: nobody is left to be told.
            return
        except ApiError as error:
            self.refuse(error)
        except Exception:  # the border: whatever it was, the client gets an answer
            self.refuse(ServerFault("Internal error of the replay or the recording"))

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _take

    def _check_secret(self) -> None:
        headers = self.headers
        keys = presented_keys(headers.get(SECRET_HEADER) or headers.get("x-api-key"), headers.get("authorization"))
        if not matches(keys, self.local.secret):
            raise AuthenticationFailed(f"{SECRET_HEADER}: missing or wrong")

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            raise InvalidRequest("content-length: Field required")
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise InvalidRequest("content-length: not a length")
        if int(length) > MAX_BODY:
            raise RequestTooLarge("Request exceeds the maximum size")
        return self.rfile.read(int(length))

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(json.dumps(value).encode(), "application/json", status, headers)

    def send_bytes(self, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, error: ApiError) -> None:
        """Nothing more is said once an answer has begun: the connection breaks, which every client notices."""
        if not self.begun:
            try:
                self.send_json(error.body(self.request_id), error.status, error.headers())
            except OSError:
                return

    def begin_chunks(self, headers: dict[str, str], status: int = 200) -> None:
        self._head(status, {**headers, "transfer-encoding": "chunked"})

    def chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_chunks(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def gone_within(self, seconds: float) -> bool:
        """Waits so long, and says whether the client has left, or the server is to end, before."""
        until = monotonic() + seconds
        while (rest := until - monotonic()) > 0 and not self.local.closing.is_set():
            if self.leaves_within(min(rest, _LOOK)):
                return True
        return self.local.closing.is_set()

    def leaves_within(self, seconds: float) -> bool:
        """Whether the client goes. Returns earlier if it sends what nobody expects, which is dropped."""
        # `select.select` takes no descriptor beyond 1023, which a kernel with many files open has.
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            try:
                return bool(selector.select(seconds)) and not self.connection.recv(1)
            except ConnectionError:
                # Killed, or gone with bytes unread: its system resets the connection.
                return True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.begun = True
        self.send_response_only(status)
        for name, value in {"request-id": self.request_id, **headers, "connection": "close"}.items():
            self.send_header(name, "".join(one if " " <= one <= "~" else "?" for one in value))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the traces tell."""
