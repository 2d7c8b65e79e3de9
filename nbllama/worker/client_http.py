"""HTTP to a worker (or to any other Anthropic endpoint) with the standard library only, so that kernels stay light."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from nbllama.wire.errors import ERRORS_BY_TYPE, ApiError, ServerFault
from nbllama.wire.sse import Decoder, ServerSentEvent
from nbllama.worker import post_mortem
from nbllama.worker.errors import WorkerDied, WorkerError

SECRET_HEADER = "nbllama-secret"
ATTACHED_AS_HEADER = "nbllama-attached-as"
REQUEST_ID_HEADER = "nbllama-request-id"
"""Who asks the worker on its socket may name the request, and so find its trace however early it is broken off."""
ATTACHED_KINDS = ("kernel", "jupyter", "serve")
"""What an attached program may call itself; the worker counts each kind for its status."""

SILENCE = 120.0
"""Seconds without a byte after which a stream counts as dead. A ping comes every 10 s."""

_CONNECTION_ERRORS = (OSError, http.client.HTTPException)
_TERMINAL_EVENTS = ("message_stop", "error")


@dataclass(frozen=True)
class Endpoint:
    """Where requests go: this user's worker (`socket`, or loopback TCP with a secret), or another server's URL.

    `info` is the connection file of a worker and empty for another server. `key` is a worker's secret or a server's
    API key; which header it travels in is decided by `headers()`."""

    base_url: str
    socket: str | None = None
    key: str | None = field(default=None, repr=False)
    pid: int | None = None
    info: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker itself, so that its `nbllama-*` request headers count."""
        return self.pid is not None

    def headers(self) -> dict[str, str]:
        """What opens the endpoint: nothing over a socket."""
        if self.key is None:
            return {}
        return {SECRET_HEADER if self.is_worker else "x-api-key": self.key}

    def target(self, path: str) -> str:
        """The request target of `path` ("/v1/messages"), below the path of `base_url`."""
        return urlsplit(self.base_url).path.rstrip("/") + path


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


def open_connection(endpoint: Endpoint, timeout: float | None = None) -> http.client.HTTPConnection:
    """A connection that connects at its first request. `timeout` in seconds for each wait; None = no limit.

    Environment proxies are not used. Raises WorkerError for a URL that is none."""
    if endpoint.socket is not None:
        return UnixConnection(endpoint.socket, timeout)
    try:
        url = urlsplit(endpoint.base_url)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise WorkerError(f"{endpoint.base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise WorkerError(f"{endpoint.base_url!r} is not an http:// or https:// URL")
    if url.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def request_json(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    timeout: float | None = 30,
    *,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One request, one JSON object. `timeout` in seconds for each wait.

    Raises ApiError as the server's error body says, WorkerError if no whole answer arrives."""
    connection = open_connection(endpoint, timeout)
    try:
        response = _send(connection, endpoint, method, path, body, headers)
        data = response.read()
    except _CONNECTION_ERRORS as error:
        raise WorkerError(f"no answer from {_name(endpoint)}: {_reason(error)}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise error_from(response, data)
    value = _parse(data)
    if value is None:
        raise WorkerError(f"{_name(endpoint)} answered {path} with something that is not a JSON object")
    return value


def stream_events(
    endpoint: Endpoint,
    body: dict[str, Any],
    headers: Mapping[str, str] | None = None,
    *,
    on_headers: Callable[[dict[str, str]], None] | None = None,
    path: str = "/v1/messages",
) -> Iterator[ServerSentEvent]:
    """POST `path` with `stream` on: its events up to the terminal one (`message_stop` or `error`).

    The socket is closed, which cancels the answer, when the generator is closed or an exception passes through it.
    `on_headers` is given the answer's headers (lower case). Raises ApiError before the first event if the request is
    refused, WorkerError if nobody is there, WorkerDied if the stream ends without a terminal event."""
    connection = open_connection(endpoint, SILENCE)
    try:
        response = _send_stream(connection, endpoint, path, {**body, "stream": True}, headers)
        if on_headers is not None:
            on_headers({name.lower(): value for name, value in response.getheaders()})
        yield from _events(response, endpoint)
    finally:
        connection.close()


def error_from(response: http.client.HTTPResponse, data: bytes) -> ApiError:
    """The ApiError that an error answer means, with what the server says about trying again."""
    body = _parse(data) or {}
    error = body.get("error")
    if not isinstance(error, dict):
        message = data.decode(errors="replace").strip()[:500]
        error = {"message": message or f"{response.status} {response.reason}"}
    kind = ERRORS_BY_TYPE.get(str(error.get("type")), ServerFault)
    details = error.get("details")
    retry_after = response.getheader("retry-after", "")
    return kind(
        str(error.get("message")),
        details=details if isinstance(details, dict) else None,
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
        should_retry={"true": True, "false": False}.get(response.getheader("x-should-retry", "")),
    )


class Attachment:
    """One open request that keeps the worker alive. Close it to detach; a process that ends detaches by itself.

    It needs no thread: the worker watches its end of the socket, and `alive` looks at ours."""

    def __init__(self, held: socket.socket, response: http.client.HTTPResponse) -> None:
        held.setblocking(False)
        self._socket: socket.socket | None = held
        self._response = response

    @property
    def alive(self) -> bool:
        """Whether the worker still holds its end."""
        if self._socket is None:
            return False
        try:
            # What the worker sends to keep the line open is read and dropped.
            while data := self._socket.recv(4096):
                if data.endswith(b"0\r\n\r\n"):
                    return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Detaches. Also when a forked child still has the socket, hence the shutdown."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._socket.close()
        self._socket = None

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def attach(endpoint: Endpoint, kind: str | None = None) -> Attachment:
    """Attaches to a worker as one of ATTACHED_KINDS; when this returns, the worker counts us.

    Raises WorkerError, or ApiError if refused."""
    connection = open_connection(endpoint, 30)
    headers = {ATTACHED_AS_HEADER: kind} if kind is not None else {}
    try:
        connection.connect()
        # Kept by itself: the connection forgets its socket when the answer says that it will be closed.
        held = connection.sock
        response = _send(connection, endpoint, "GET", "/nbllama/attach", None, headers)
        if response.status >= 400:
            raise error_from(response, response.read())
        return Attachment(held, response)
    except _CONNECTION_ERRORS as error:
        connection.close()
        raise WorkerError(f"cannot attach to {_name(endpoint)}: {_reason(error)}") from error
    except BaseException:
        connection.close()
        raise


def _send(
    connection: http.client.HTTPConnection,
    endpoint: Endpoint,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    headers: Mapping[str, str] | None,
) -> http.client.HTTPResponse:
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    sent = {"content-type": "application/json", "accept": "application/json", **(headers or {}), **endpoint.headers()}
    # A server may refuse and close before it has read everything: its answer is there nevertheless.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, endpoint.target(path), body=data, headers=sent)
    return connection.getresponse()


def _send_stream(
    connection: http.client.HTTPConnection,
    endpoint: Endpoint,
    path: str,
    body: dict[str, Any],
    headers: Mapping[str, str] | None,
) -> http.client.HTTPResponse:
    try:
        response = _send(connection, endpoint, "POST", path, body, headers)
        if response.status < 400:
            return response
        data = response.read()
    except _CONNECTION_ERRORS as error:
        raise WorkerError(f"no answer from {_name(endpoint)}: {_reason(error)}") from error
    raise error_from(response, data)


def _events(response: http.client.HTTPResponse, endpoint: Endpoint) -> Iterator[ServerSentEvent]:
    decoder = Decoder()
    while data := _read(response, endpoint):
        for event in decoder.feed(data):
            yield event
            if event.name in _TERMINAL_EVENTS:
                return
    raise WorkerDied(f"{_name(endpoint)} ended the stream before the answer was complete{_cause(endpoint)}")


def _read(response: http.client.HTTPResponse, endpoint: Endpoint) -> bytes:
    try:
        return response.read1(65536)
    except _CONNECTION_ERRORS as error:
        raise WorkerDied(
            f"{_name(endpoint)} went away in the middle of the answer: {_reason(error)}{_cause(endpoint)}"
        ) from error


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _name(endpoint: Endpoint) -> str:
    return f"the worker (pid {endpoint.pid})" if endpoint.is_worker else endpoint.base_url


def _cause(endpoint: Endpoint) -> str:
    why = post_mortem.crash(endpoint.info) if endpoint.info else None
    return f": {why}" if why else ""


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
