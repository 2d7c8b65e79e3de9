"""The TCP door of `nbllama serve`: checks its token, then relays. The same routes as the worker's, below `/`."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from nbllama.wire.errors import AuthenticationFailed, InvalidRequest, NotFound, ServerFault
from nbllama.worker.link import MAX_BODY, WorkerLink, refuse, request_id

MOST_READ = 4 * MAX_BODY
"""Bytes of a body that are read at all. Between MAX_BODY and this the client gets a 413 that it can understand."""


def new_door(link: WorkerLink, token: str) -> HTTPServer:
    """A server, not yet listening, that lets requests with `token` through `link`. An empty token is refused."""
    if not token:
        raise ValueError("a door needs a token")
    routes: list[Any] = [
        (r"/nbllama(/v1/.+)", RelayHandler, {"link": link, "token": token}),
        (r"(/v1/.+|/nbllama/.+)", RelayHandler, {"link": link, "token": token}),
        (r"/|/api/hello", HelloHandler, {"token": token}),
        (r".*", UnknownHandler, {"token": token}),
    ]
    return HTTPServer(Application(routes, log_function=_no_log), max_body_size=MOST_READ)


class DoorHandler(RequestHandler):
    """Lets nobody in without the token, sent as `x-api-key` or as Bearer."""

    def initialize(self, token: str) -> None:
        self._token = token

    def set_default_headers(self) -> None:
        self.set_header("request-id", request_id(self))

    def prepare(self) -> None:
        keys = presented_keys(self.request.headers.get("x-api-key"), self.request.headers.get("Authorization"))
        if not any(hmac.compare_digest(key, self._token.encode()) for key in keys):
            message = "invalid x-api-key or bearer token" if keys else "x-api-key header is required"
            refuse(self, AuthenticationFailed(message))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code >= 500:
            refuse(self, ServerFault("The door failed; its log says more"), status=status_code)
        else:
            refuse(self, InvalidRequest(HTTPStatus(status_code).phrase), status=status_code)


class RelayHandler(DoorHandler):
    def initialize(self, token: str, link: WorkerLink) -> None:  # type: ignore[override]  # Tornado passes by name
        super().initialize(token)
        self._link = link

    async def _relay(self, path: str) -> None:
        await self._link.relay(self, path)

    get = post = put = patch = delete = _relay


class UnknownHandler(DoorHandler):
    async def _unknown(self) -> None:
        refuse(self, NotFound(f"Not found: {self.request.path}"))

    get = head = post = put = patch = delete = _unknown


class HelloHandler(UnknownHandler):
    """Claude Code warms its connection up with `HEAD /` or `HEAD /api/hello`, without a key; it starts nothing."""

    def prepare(self) -> None:
        if self.request.method != "HEAD":
            super().prepare()

    def head(self) -> None:  # type: ignore[override]  # this one method answers
        self.set_status(200)


def presented_keys(api_key: str | None, authorization: str | None) -> list[bytes]:
    """The keys a request brings; some clients send theirs in both headers."""
    scheme, _, bearer = (authorization or "").partition(" ")
    found = [api_key or "", bearer.strip() if scheme.lower() in ("bearer", "token") else ""]
    # Tornado reads headers as Latin-1: so these are the bytes that came.
    return [key.encode("latin1") for key in found if key]


def _no_log(handler: RequestHandler) -> None:
    """Requests are in the worker's traces; a terminal is for what the user has to know."""
