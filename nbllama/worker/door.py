"""A TCP door, as `nbllama serve` and `nbllama claude` open it: names, origins and keys, then the worker's routes.

No web page is a client. A foreign `Host` is refused (DNS rebinding), no origin is answered with a CORS header unless it
was named when the door was opened, and without a key there is nothing but the warm-up of Claude Code's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from nbllama.wire.errors import (
    ApiError,
    AuthenticationFailed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RequestTooLarge,
    ServerFault,
)
from nbllama.worker import api_key
from nbllama.worker.api_key import presented_keys
from nbllama.worker.host_names import host_name, is_ours
from nbllama.worker.http_server import BoundedServer
from nbllama.worker.link import MAX_BODY, WorkerLink, refuse, request_id

__all__ = ["MOST_READ", "Access", "new_door", "presented_keys"]

MOST_READ = 4 * MAX_BODY
"""Above this length a body is refused unread. Below it is read and dropped: who still sends would not see a 413."""

CORS_HEADERS = (
    "accept, authorization, content-type, x-api-key, anthropic-version, anthropic-beta, "
    "anthropic-dangerous-direct-browser-access"
)
"""What the SDKs send from a page, besides the x-stainless-* that they are asked about by name."""


@dataclass(frozen=True)
class Access:
    """Who gets in. `token` opens everything, the key (`key_opens`) only `/v1/*`.

    `hosts` are names beside loopback and the bound address, `origins` the pages that may ask."""

    token: str
    key_opens: Callable[[list[bytes]], bool] = api_key.opens
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("a door needs a token")


def new_door(link: WorkerLink, access: Access | str) -> HTTPServer:
    """A server, not yet listening, that lets requests through `link`; a str is the token, with no more allowed."""
    allowed = Access(access) if isinstance(access, str) else access
    routes: list[Any] = [
        (r"/(?:nbllama/)?v1/.+", ApiHandler, {"link": link, "access": allowed}),
        (r"/nbllama/.+", RelayHandler, {"link": link, "access": allowed}),
        (r"/(?:api/hello)?", HelloHandler, {"access": allowed}),
        (r".*", UnknownHandler, {"access": allowed}),
    ]
    return BoundedServer(Application(routes, log_function=_no_log))


@stream_request_body
class DoorHandler(RequestHandler):
    """Lets nobody in without the token, sent as `x-api-key` or as Bearer. Keeps no byte of those who have none."""

    _access: Access | None = None
    key_is_enough = False

    def initialize(self, access: Access) -> None:
        self._access = access
        self._refusal: ApiError | None = None
        self._body = bytearray()
        self._say_origin()

    def set_default_headers(self) -> None:
        self.set_header("request-id", request_id(self))
        self._say_origin()

    def prepare(self) -> None:
        self._refusal = self._foreign_host() or (None if self._is_preflight() else self._no_entry())
        if _length(self.request.headers) > MOST_READ:
            refuse(self, self._refusal or _too_large())

    def data_received(self, chunk: bytes) -> None:
        if self._refusal is None and len(self._body) + len(chunk) > MAX_BODY:
            self._refusal = _too_large()
        if self._refusal is not None:
            self._body.clear()
        else:
            self._body += chunk

    async def _take(self) -> None:
        """Any method, once the body is there."""
        if self._refusal is not None:
            refuse(self, self._refusal)
        elif self._is_preflight():
            self._answer_preflight()
        else:
            self.request.body = bytes(self._body)
            await self.answer()

    get = head = post = put = patch = delete = options = _take

    async def answer(self) -> None:
        """Answers a request that may pass."""
        refuse(self, NotFound(f"Not found: {self.request.path}"))

    def _answer_preflight(self) -> None:
        asked = self.request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
        stainless = [name for name in map(str.strip, asked) if name.startswith("x-stainless-")]
        self.set_header("Access-Control-Allow-Headers", ", ".join([CORS_HEADERS, *stainless]))
        self.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
        self.set_header("Access-Control-Max-Age", "600")
        self.set_status(204)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 404:
            refuse(self, NotFound(f"Not found: {self.request.path}"))
        elif status_code >= 500:
            refuse(self, ServerFault("The door failed; its log says more"), status=status_code)
        else:
            refuse(self, InvalidRequest(HTTPStatus(status_code).phrase), status=status_code)

    def _foreign_host(self) -> ApiError | None:
        header = self.request.headers.get("Host", "")
        if not header or is_ours(header, _bound_address(self), self._known.hosts):
            return None
        name = host_name(header)
        return PermissionDenied(f"Host: {name} is not a name of this server; to let it in, use --allow-host {name}")

    def _no_entry(self) -> ApiError | None:
        headers: HTTPHeaders = self.request.headers
        keys = presented_keys(headers.get("x-api-key"), headers.get("Authorization"))
        if api_key.matches(keys, self._known.token):
            return None
        if not self._known.key_opens(keys):
            return AuthenticationFailed("invalid x-api-key or bearer token" if keys else "x-api-key header is required")
        return None if self.key_is_enough else PermissionDenied("this key opens /v1 and nothing else")

    def _is_preflight(self) -> bool:
        return (
            self.request.method == "OPTIONS"
            and self._allowed_origin() is not None
            and "Access-Control-Request-Method" in self.request.headers
        )

    def _allowed_origin(self) -> str | None:
        origin = self.request.headers.get("Origin")
        return origin if self._access is not None and origin in self._access.origins else None

    def _say_origin(self) -> None:
        """Also on errors: a page that may ask may read what went wrong."""
        if (origin := self._allowed_origin()) is not None:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", "request-id, retry-after, nbllama-model, nbllama-ignored")
            self.set_header("Vary", "Origin")

    @property
    def _known(self) -> Access:
        assert self._access is not None
        return self._access


class RelayHandler(DoorHandler):
    def initialize(self, access: Access, link: WorkerLink) -> None:  # type: ignore[override]  # Tornado passes by name
        super().initialize(access)
        self._link = link

    async def answer(self) -> None:
        if self.request.method in ("HEAD", "OPTIONS"):
            raise HTTPError(405)
        # As it was sent: decoded, a %2F would be another path and a %0A no request line.
        path = self.request.path
        await self._link.relay(self, path.removeprefix("/nbllama") if path.startswith("/nbllama/v1/") else path)


class ApiHandler(RelayHandler):
    """The Anthropic API itself: here the key is enough."""

    key_is_enough = True


class UnknownHandler(DoorHandler):
    """What is none of the worker's paths."""


class HelloHandler(DoorHandler):
    """Claude Code warms its connection up with `HEAD /` or `HEAD /api/hello`, without a key; it starts nothing."""

    def _no_entry(self) -> ApiError | None:
        return None if self.request.method == "HEAD" else super()._no_entry()

    async def answer(self) -> None:
        if self.request.method == "HEAD":
            self.set_status(200)
        else:
            await super().answer()


def _length(headers: HTTPHeaders) -> int:
    """What a body says of itself; lies are Tornado's to find."""
    length = headers.get("Content-Length", "")
    # Python's own limit for digits; nothing that long is meant.
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


def _too_large() -> ApiError:
    return RequestTooLarge(f"The request body is larger than {MAX_BODY >> 20} MiB")


def _bound_address(handler: RequestHandler) -> str | None:
    """The address at which this request's connection was accepted: of a door at 0.0.0.0 the one that was used."""
    stream = getattr(handler.request.connection, "stream", None)
    try:
        return str(stream.socket.getsockname()[0]) if stream is not None else None
    except (OSError, AttributeError, IndexError):
        return None


def _no_log(handler: RequestHandler) -> None:
    """Requests are in the worker's traces; a terminal is for what the user has to know."""
