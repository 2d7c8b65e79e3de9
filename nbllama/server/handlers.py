"""The handlers: Jupyter authenticates and authorises, the worker answers, errors have Anthropic's shape.

Each concrete class guards its own verbs, with action and resource named: `@authorized` keeps what its first request
had, so a method shared between classes would be checked against the wrong one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from jupyter_server.auth import User
from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from nbllama._version import __version__
from nbllama.errors import NbllamaError
from nbllama.server.worker_watch import NOTHING_RUNS, worker_status
from nbllama.wire.errors import (
    ApiError,
    AuthenticationFailed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ServerFault,
)
from nbllama.worker import api_key
from nbllama.worker.link import refuse, request_id

if TYPE_CHECKING:
    from nbllama.server.extension import NbllamaApp

RESOURCE = "nbllama"
ALLOWED_HEADERS = (
    "accept, authorization, content-type, x-api-key, x-xsrftoken, anthropic-version, anthropic-beta, "
    "anthropic-dangerous-direct-browser-access"
)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def _guard(action: str) -> Callable[[Verb], Verb]:
    """Authenticated first, then authorised to do `action`."""

    def guarded(verb: Verb) -> Verb:
        authorised: Verb = authorized(action=action, resource=RESOURCE)(verb)
        return cast(Verb, web.authenticated(authorised))

    return guarded


reads = _guard("read")
writes = _guard("write")


def routes(api_prefix: str) -> list[tuple[str, type[web.RequestHandler]]]:
    """Patterns below the server's base URL. `api_prefix` has no slash at its ends and may be empty."""
    prefixes = dict.fromkeys([f"{api_prefix}/" if api_prefix else "", "nbllama/"])
    return [route for prefix in prefixes for route in _api_routes(prefix)] + [
        (r"nbllama/status", StatusHandler),
        (r"nbllama(?P<path>/.+)", WorkerHandler),
    ]


def _api_routes(prefix: str) -> list[tuple[str, type[web.RequestHandler]]]:
    return [
        (rf"{prefix}v1/messages", MessagesHandler),
        (rf"{prefix}v1/messages/count_tokens", CountTokensHandler),
        (rf"{prefix}v1/models(?:/(?P<model>[^/]+))?", ModelsHandler),
        (rf"{prefix}v1(?:/.*)?", UnknownHandler),
    ]


class NbllamaHandler(ExtensionHandlerMixin, APIHandler):
    """Lets Jupyter's token in as `x-api-key` or Bearer, and answers errors as Anthropic's API does."""

    auth_resource = RESOURCE

    @property
    def app(self) -> NbllamaApp:
        return cast("NbllamaApp", self.extensionapp)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("request-id", request_id(self))

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler itself does
        _let_api_key_in(self.request.headers)
        await super().prepare()

    def get_login_url(self) -> str:
        """Tornado redirects there; a client of an API wants a 401."""
        raise web.HTTPError(401)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self._error(status_code, _text(kwargs.get("exc_info")))
        refuse(self, error, status=status_code if status_code in (404, 405) else None)

    @allow_unauthenticated
    def options(self, *args: Any, **kwargs: Any) -> None:
        super().options(*args, **kwargs)
        if "Access-Control-Allow-Headers" not in self.settings.get("headers", {}):
            self.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)

    async def relay(self, path: str) -> None:
        self.app.touch()
        try:
            await self.app.link.relay(self, path, _client(self.current_user))
        finally:
            self.app.touch()

    def _error(self, status_code: int, text: str) -> ApiError:
        # In this order: before `prepare`, where a strange method or path ends, asking for the user raises.
        if status_code in (401, 403) and not self.current_user and self.check_host():
            sent = "x-api-key" in self.request.headers or "Authorization" in self.request.headers
            return AuthenticationFailed("invalid x-api-key or token" if sent else "x-api-key header is required")
        if status_code == 403:
            return PermissionDenied(text or "This request is not allowed here")
        if status_code == 404:
            return NotFound(f"Not found: {self.request.path}")
        if status_code < 500:
            return InvalidRequest(text or _phrase(status_code))
        return ServerFault("The Jupyter server failed at this request; its log says more")


class ApiHandler(NbllamaHandler):
    """The Anthropic API itself: nbllama's own key opens it, and no other route of this server."""

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler itself does
        headers = self.request.headers
        keys = api_key.presented_keys(headers.get("X-Api-Key"), headers.get("Authorization"))
        if api_key.opens(keys):
            # What Jupyter's own provider keeps of a token, for this one request: it sets no cookie.
            self._jupyter_current_user = User("nbllama-key")
            self._token_authenticated = True
        await super().prepare()


class MessagesHandler(ApiHandler):
    @writes
    async def post(self) -> None:
        await self.relay("/v1/messages")


class CountTokensHandler(ApiHandler):
    @writes
    async def post(self) -> None:
        await self.relay("/v1/messages/count_tokens")


class ModelsHandler(ApiHandler):
    @reads
    async def get(self, model: str | None = None) -> None:
        await self.relay("/v1/models" + (f"/{quote(model, safe='')}" if model else ""))


class UnknownHandler(ApiHandler):
    """What the API does not have is a 404 to those who may ask, not a page to log in."""

    @reads
    async def get(self) -> None:
        raise web.HTTPError(404)

    @reads
    async def head(self) -> None:
        raise web.HTTPError(404)

    @writes
    async def post(self) -> None:
        raise web.HTTPError(404)

    @writes
    async def put(self) -> None:
        raise web.HTTPError(404)

    @writes
    async def patch(self) -> None:
        raise web.HTTPError(404)

    @writes
    async def delete(self) -> None:
        raise web.HTTPError(404)


class WorkerHandler(NbllamaHandler):
    """nbllama's own routes, as the worker has them."""

    @reads
    async def get(self, path: str) -> None:
        await self.relay(f"/nbllama{quote(path)}")

    @writes
    async def post(self, path: str) -> None:
        await self.relay(f"/nbllama{quote(path)}")


class StatusHandler(NbllamaHandler):
    """What runs. Asking starts no worker and does not keep the server alive: a page may poll."""

    _track_activity = False

    @reads
    async def get(self) -> None:
        try:
            status = await asyncio.to_thread(worker_status)
            self.app.watch.take(status)
        except NbllamaError as error:
            status = {**NOTHING_RUNS, "error": str(error)}
        server: dict[str, Any] = {"version": __version__, "needs_token": self.app.needs_token()}
        await self.finish({**status, "server": server})


def _let_api_key_in(headers: Any) -> None:
    """Jupyter knows its token only as Authorization. It stays the one to judge it, so a wrong key changes nothing."""
    scheme = headers.get("Authorization", "").partition(" ")[0].lower()
    if "X-Api-Key" in headers and scheme not in ("bearer", "token"):
        headers["Authorization"] = f"token {headers['X-Api-Key']}"


def _client(user: Any) -> str:
    """Whose request it is: on a Hub another user may be let into this server; elsewhere users are random names."""
    owner = os.environ.get("JUPYTERHUB_USER")
    name = str(getattr(user, "username", ""))
    return "local" if owner is None or name in ("", owner) else name


def _text(exc_info: Any) -> str:
    error = exc_info[1] if exc_info else None
    return (error.log_message or "") if isinstance(error, web.HTTPError) else ""


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return f"HTTP {status_code}"
