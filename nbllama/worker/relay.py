"""Carries a door's request to the worker, and the answer back as it comes.

Strategy. One connection per request, Tornado's own HTTP/1 client protocol over a socket: each piece of the answer is
handed on and flushed before the next is read, so a slow client holds back its own stream and no other. Of a stream only
whole events are passed, so that an `error` event can always follow: the relay sends it itself when the worker ends
before `message_stop` or `error`. A client that leaves closes the worker's socket, which cancels the answer there.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.web import RequestHandler

from nbllama.wire import sse
from nbllama.wire.errors import ServerFault
from nbllama.wire.events import ErrorEvent
from nbllama.worker import post_mortem
from nbllama.worker.connection import Endpoint
from nbllama.worker.errors import WorkerDied, WorkerError

CLIENT_HEADER = "nbllama-client"
DEFAULT_MODEL_HEADER = "nbllama-default-model"
"""The door's own model, for requests that name an unknown one: doors with different models share a worker."""

_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection")
) | {"te", "trailer", "transfer-encoding", "upgrade"}
# What opened the door is not the worker's business.
_KEYS = frozenset(("authorization", "x-api-key", "cookie", "x-xsrftoken"))
# Said anew for this hop. Without accept-encoding the worker answers in plain bytes, where events can be seen.
_SAID_ANEW = frozenset(("host", "content-length", "expect", "accept-encoding"))
_ANSWER_SAID_ANEW = frozenset(("server", "date"))
_TERMINAL_EVENT = re.compile(rb"^event: (?:message_stop|error)\n.*?\n\n", re.MULTILINE | re.DOTALL)
_WORKER_ENDED = "The worker ended before the answer was complete; the next request starts a new one"
_DOOR_CLOSED = "The door to the worker was closed before the answer was complete"


async def relay(
    handler: RequestHandler,
    endpoint: Endpoint,
    path: str,
    client: str = "local",
    *,
    default_model: str | None = None,
) -> bool:
    """Answers `handler`'s request with what the worker answers to it at `path` ("/v1/messages").

    `client` names whose request it is. Returns when the answer is out or the client has gone, and says whether the
    worker did its part; when cancelled, it ends the answer. Raises WorkerError if the worker cannot be reached and
    WorkerDied if it ends before the headers: in both cases nothing has been sent."""
    stream = await _connect(endpoint)
    answer, cut = _Answer(handler), _WORKER_ENDED
    try:
        _when_client_leaves(handler, stream.close)
        headers = request_headers(handler.request.headers, endpoint, client, default_model)
        await _exchange(handler, stream, _target(handler, endpoint, path), headers, answer)
    except asyncio.CancelledError:
        cut = _DOOR_CLOSED
    finally:
        stream.close()
    if _client_has_left(handler):
        return True
    if cut is _WORKER_ENDED and not answer.complete and (why := post_mortem.crash(endpoint.info)):
        cut = f"{cut}: {why}"
    await answer.close(cut)
    return answer.complete


def request_headers(
    headers: HTTPHeaders, endpoint: Endpoint, client: str, default_model: str | None = None
) -> HTTPHeaders:
    """The headers that the worker gets: the client's without keys, hops and `nbllama-*`, and the door's own."""
    dropped = _HOP_BY_HOP | _KEYS | _SAID_ANEW | _named_by_connection(headers)
    # Names of users and files may hold what a header cannot: they travel percent-encoded.
    passed = HTTPHeaders({"Host": "localhost", CLIENT_HEADER: quote(client, safe="@")})
    if default_model is not None:
        passed[DEFAULT_MODEL_HEADER] = quote(default_model, safe="/:")
    for name, value in headers.get_all():
        if name.lower() not in dropped and not name.lower().startswith("nbllama-"):
            passed.add(name, value)
    for name, value in endpoint.headers().items():
        passed[name] = value
    return passed


class WholeEvents:
    """Bytes of an event stream in, whole events out, up to the terminal one. The worker writes LF line ends only."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, as bytes; what follows a terminal event is dropped."""
        if self.ended:
            return b""
        searched_from = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", searched_from)
        if end < 0:
            return b""
        whole = bytes(self._rest[: end + 2])
        del self._rest[: end + 2]
        return self._up_to_terminal(whole)

    def _up_to_terminal(self, whole: bytes) -> bytes:
        terminal = _TERMINAL_EVENT.search(whole)
        if terminal is None:
            return whole
        self.ended = True
        return whole[: terminal.end()]


class _Answer(HTTPMessageDelegate):
    """Takes the worker's answer apart and writes it to the client's handler."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._events: WholeEvents | None = None
        self._request_id: str | None = None
        self._started = False
        self._finished = False

    @property
    def complete(self) -> bool:
        """Whether all of it came: for a stream, its terminal event."""
        return self._finished if self._events is None else self._events.ended

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        if not isinstance(start_line, ResponseStartLine) or start_line.code < 200:
            return None
        self._started = True
        self._request_id = headers.get("request-id")
        if headers.get("Content-Type", "").startswith("text/event-stream"):
            self._events = WholeEvents()
        self._handler.set_status(start_line.code, start_line.reason)
        self._pass_headers(headers)
        # At once: a stream may stay silent for long, and finish() of some handlers rewrites Content-Type.
        return self._flush()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._write(chunk if self._events is None else self._events.feed(chunk))

    def finish(self) -> None:
        self._finished = True

    async def close(self, cut: str) -> None:
        """Ends the client's answer in the one way that is left; `cut` says why, if it is not complete.

        Raises WorkerDied if nothing was sent yet."""
        if not self._started:
            raise WorkerDied(cut)
        if self.complete:
            return
        if self._events is not None:
            await self._write(sse.encode(ErrorEvent(ServerFault(cut).body(self._request_id))))
        else:
            # A cut body must not look like a whole one: the client sees the connection break.
            self._handler.detach().close()

    async def _write(self, data: bytes) -> None:
        if data and not _client_has_left(self._handler):
            self._handler.write(data)
            await self._flush()

    async def _flush(self) -> None:
        try:
            await self._handler.flush()
        except StreamClosedError:
            # The client left during the flush; its close callback has cancelled the answer.
            return

    def _pass_headers(self, headers: HTTPHeaders) -> None:
        dropped = _HOP_BY_HOP | _ANSWER_SAID_ANEW | _named_by_connection(headers)
        if self._events is not None:
            # An event of our own may follow.
            dropped |= {"content-length"}
        names = {name for name, _ in headers.get_all() if name.lower() not in dropped}
        for name in names:
            self._handler.clear_header(name)
            for value in headers.get_list(name):
                self._handler.add_header(name, value)


async def _connect(endpoint: Endpoint) -> IOStream:
    try:
        if endpoint.socket is not None:
            stream = IOStream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            await stream.connect(endpoint.socket)
            return stream
        url = urlsplit(endpoint.base_url)
        return await TCPClient().connect(url.hostname or "", url.port or 80)
    except (OSError, StreamClosedError) as error:
        raise WorkerError(f"The worker cannot be reached: {error}") from error


async def _exchange(
    handler: RequestHandler, stream: IOStream, target: str, headers: HTTPHeaders, answer: _Answer
) -> None:
    # Without a size of our own Tornado cuts answers at 100 MiB.
    parameters = HTTP1ConnectionParameters(max_body_size=sys.maxsize, no_keep_alive=True)
    connection = HTTP1Connection(stream, is_client=True, params=parameters)
    method, body = handler.request.method or "GET", handler.request.body
    if body or method not in ("GET", "HEAD", "OPTIONS"):
        headers["Content-Length"] = str(len(body))
    # Not awaited: a worker that refuses a body answers before it has read it.
    connection.write_headers(RequestStartLine(method, target, "HTTP/1.1"), headers, body or None)
    connection.finish()
    try:
        await connection.read_response(answer)
    except StreamClosedError:
        # The worker's end, or the client's, which closed our stream: `close()` of the answer tells them apart.
        return


def _target(handler: RequestHandler, endpoint: Endpoint, path: str) -> str:
    # `?token=` is Jupyter's third way to send a key.
    query = [pair for pair in parse_qsl(handler.request.query, keep_blank_values=True) if pair[0] != "token"]
    return endpoint.target(path) + (f"?{urlencode(query)}" if query else "")


def _named_by_connection(headers: HTTPHeaders) -> set[str]:
    return {name.strip().lower() for name in headers.get("Connection", "").split(",")}


def _when_client_leaves(handler: RequestHandler, cancel: Callable[[], None]) -> None:
    connection = handler.request.connection
    if not isinstance(connection, HTTP1Connection):
        raise TypeError("a door relays from an HTTP/1 server connection")

    def closed() -> None:
        cancel()
        handler.on_connection_close()

    if connection.stream.closed():
        closed()
    else:
        connection.set_close_callback(closed)


def _client_has_left(handler: RequestHandler) -> bool:
    connection = handler.request.connection
    return isinstance(connection, HTTP1Connection) and connection.stream.closed()
