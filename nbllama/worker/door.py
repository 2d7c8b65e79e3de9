"""The TCP door of `nbllama serve`: checks its token, then relays. The same routes as the worker's, below `/`."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from nbllama.wire.errors import ApiError, AuthenticationFailed, InvalidRequest, NotFound, RequestTooLarge, ServerFault
from nbllama.worker.http_server import BoundedServer
from nbllama.worker.link import MAX_BODY, WorkerLink, refuse, request_id

MOST_READ = 4 * MAX_BODY
"""Above this length a body is refused unread. Below it is read and dropped: who still sends would not see a 413."""


def new_door(link: WorkerLink, token: str) -> HTTPServer:
    """A server, not yet listening, that lets requests with `token` through `link`. An empty token is refused."""
    if not token:
        raise ValueError("a door needs a token")
    routes: list[Any] = [
        (r"/(?:v1|nbllama)/.+", RelayHandler, {"link": link, "token": token}),
        (r"/(?:api/hello)?", HelloHandler, {"token": token}),
        (r".*", UnknownHandler, {"token": token}),
    ]
    return BoundedServer(Application(routes, log_function=_no_log))


@stream_request_body
class DoorHandler(RequestHandler):
    """Lets nobody in without the token, sent as `x-api-key` or as Bearer. Keeps no byte of those who have none."""

    def initialize(self, token: str) -> None:
        self._token = token
        self._refusal: ApiError | None = None
        self._body = bytearray()

    def set_default_headers(self) -> None:
        self.set_header("request-id", request_id(self))

    def prepare(self) -> None:
        self._refusal = self._no_entry()
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
            return
        self.request.body = bytes(self._body)
        await self.answer()

    get = head = post = put = patch = delete = options = _take

    async def answer(self) -> None:
        """Answers a request that may pass."""
        refuse(self, NotFound(f"Not found: {self.request.path}"))

    def _no_entry(self) -> ApiError | None:
        keys = presented_keys(self.request.headers.get("x-api-key"), self.request.headers.get("Authorization"))
        if any(hmac.compare_digest(key, self._token.encode()) for key in keys):
            return None
        return AuthenticationFailed("invalid x-api-key or bearer token" if keys else "x-api-key header is required")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 404:
            refuse(self, NotFound(f"Not found: {self.request.path}"))
        elif status_code >= 500:
            refuse(self, ServerFault("The door failed; its log says more"), status=status_code)
        else:
            refuse(self, InvalidRequest(HTTPStatus(status_code).phrase), status=status_code)


class RelayHandler(DoorHandler):
    def initialize(self, token: str, link: WorkerLink) -> None:  # type: ignore[override]  # Tornado passes by name
        super().initialize(token)
        self._link = link

    async def answer(self) -> None:
        if self.request.method in ("HEAD", "OPTIONS"):
            raise HTTPError(405)
        # As it was sent: decoded, a %2F would be another path and a %0A no request line.
        path = self.request.path
        await self._link.relay(self, path.removeprefix("/nbllama") if path.startswith("/nbllama/v1/") else path)


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


def presented_keys(api_key: str | None, authorization: str | None) -> list[bytes]:
    """The keys a request brings; some clients send theirs in both headers."""
    scheme, _, bearer = (authorization or "").partition(" ")
    found = [api_key or "", bearer.strip() if scheme.lower() in ("bearer", "token") else ""]
    # Tornado reads headers as Latin-1: so these are the bytes that came.
    return [key.encode("latin1") for key in found if key]


def _no_log(handler: RequestHandler) -> None:
    """Requests are in the worker's traces; a terminal is for what the user has to know."""
