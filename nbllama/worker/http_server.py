"""Tornado's HTTP server with bounds on time, and with the API's shape also for what is no HTTP."""

from __future__ import annotations

import json
import sys
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from nbllama.wire.answers import new_id
from nbllama.wire.errors import InvalidRequest

BODY_SECONDS = 120.0
"""How long all of a body may take: the largest one at 270 KB/s. Then the connection is closed."""

IDLE_SECONDS = 300.0
"""How long a connection may be silent between two requests, and until the headers of one are complete."""

MAX_HEADER_BYTES = 64 << 10

# What Tornado writes, before any handler is found, to what it cannot read.
_TORNADOS_400 = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class BoundedServer(HTTPServer):
    """A body has no limit of size here: handlers tell it in the API's own words."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        bounds = {
            "max_body_size": sys.maxsize,
            "max_header_size": MAX_HEADER_BYTES,
            "body_timeout": BODY_SECONDS,
            "idle_connection_timeout": IDLE_SECONDS,
        }
        super().initialize(*args, **(bounds | kwargs))

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        write = stream.write

        def write_in_shape(data: bytes | memoryview) -> Any:
            return write(_bad_request() if data == _TORNADOS_400 else data)

        stream.write = write_in_shape  # type: ignore[method-assign]  # Tornado has no other way in
        super().handle_stream(stream, address)


def _bad_request() -> bytes:
    id = new_id("req")
    refused = InvalidRequest("The request is not valid HTTP")
    body = json.dumps(refused.body(id)).encode()
    headers = {"Content-Type": "application/json", "request-id": id, "Connection": "close"}
    headers |= {"Content-Length": str(len(body))} | refused.headers()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 400 Bad Request\r\n{lines}\r\n".encode() + body
