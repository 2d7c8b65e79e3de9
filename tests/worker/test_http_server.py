"""The bounds on time, seen from a client that lets the server wait."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tornado.netutil import bind_sockets
from tornado.web import Application

from nbllama.worker.http_server import BODY_SECONDS, IDLE_SECONDS, BoundedServer

PATIENCE = 20


async def what_comes(sent: bytes, **bounds: float) -> bytes:
    """All that the server says until it closes; fails if it does not."""
    server = BoundedServer(Application([]), **bounds)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    reader, writer = await asyncio.open_connection("127.0.0.1", sockets[0].getsockname()[1])
    writer.write(sent)
    try:
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(reader.read(), PATIENCE)
        return b""
    finally:
        writer.close()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\nx-a: "])
def test_headers_that_do_not_come_end_the_connection(sent: bytes) -> None:
    assert asyncio.run(what_comes(sent, idle_connection_timeout=0.1)) == b""


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
    assert asyncio.run(what_comes(sent, body_timeout=0.1)) == b""


def test_the_bounds_are_in_force_unasked() -> None:
    server = BoundedServer(Application([]))
    assert (server.conn_params.body_timeout, server.conn_params.header_timeout) == (BODY_SECONDS, IDLE_SECONDS)


def test_what_is_no_http_gets_the_apis_shape() -> None:
    answer = asyncio.run(what_comes(b"nonsense\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert json.loads(body)["request_id"].encode() in head
