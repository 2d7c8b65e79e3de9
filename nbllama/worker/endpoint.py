"""What all endpoints have in common: request id, secret, the limit of a body, and the one place that writes errors."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import traceback
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote

from tornado.web import HTTPError, RequestHandler, stream_request_body

from nbllama.wire.answers import new_id
from nbllama.wire.errors import (
    ApiError,
    AuthenticationFailed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RequestTooLarge,
    ServerFault,
)
from nbllama.wire.validation import parse_json
from nbllama.worker.client_http import REQUEST_ID_HEADER, SECRET_HEADER
from nbllama.worker.host_names import is_ours

if TYPE_CHECKING:
    from nbllama.worker.state import Worker

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 << 20
"""The API's own limit for a request (anthropic-api §1)."""

_REQUEST_ID = re.compile(r"req_[0-9A-Za-z]{24}")

T = TypeVar("T")


class MethodNotAllowed(InvalidRequest):
    status = 405


class ClientGone(Exception):
    """The client closed the connection: nobody is left to answer. Never leaves its endpoint."""


@stream_request_body
class Endpoint(RequestHandler):
    """The body is collected here, so that one above the limit is answered in the API's shape."""

    def initialize(self) -> None:
        self.gone = False
        self._on_gone: Callable[[], None] | None = None
        self._body = bytearray()
        self._too_large = False

    @property
    def worker(self) -> Worker:
        return cast("Worker", self.application.worker)  # type: ignore[attr-defined]  # a WorkerApplication

    @property
    def client(self) -> str:
        """Whose request it is. Trusted: only doors and the user's own processes reach the socket."""
        return unquote(self.request.headers.get("nbllama-client") or "local")

    @property
    def default_model(self) -> str | None:
        """The model of the door that this request came through: two doors with different models share a worker."""
        if self.worker.policy.model_is_locked:
            return None
        reference = self.request.headers.get("nbllama-default-model")
        return unquote(reference) if reference else None

    def set_default_headers(self) -> None:
        # Called before initialize, and again when an error clears the headers: the id stays the same.
        if not hasattr(self, "request_id"):
            own_id = self.request.headers.get(REQUEST_ID_HEADER, "")
            self.request_id = own_id if _REQUEST_ID.fullmatch(own_id) else new_id("req")
        self.set_header("request-id", self.request_id)

    def prepare(self) -> None:
        secret = self.worker.secret
        # Over TCP a web page reaches the port, under a name that was bound anew to this address.
        if secret is not None and not is_ours(self.request.headers.get("Host", "localhost"), None):
            raise PermissionDenied("Host: not a name of this machine's for itself")
        given = self.request.headers.get(SECRET_HEADER, "")
        if secret is not None and not hmac.compare_digest(secret.encode(), given.encode()):
            raise AuthenticationFailed(f"{SECRET_HEADER}: missing or wrong")

    def data_received(self, chunk: bytes) -> None:
        # Too much is read to its end and dropped: a client that is still sending would not see the answer.
        if len(self._body) + len(chunk) > MAX_BODY_BYTES:
            self._too_large = True
            self._body.clear()
        if not self._too_large:
            self._body += chunk

    def body(self) -> bytes:
        """The whole body. Raises RequestTooLarge, and InvalidRequest for one that is compressed."""
        if self._too_large:
            raise RequestTooLarge("Request exceeds the maximum size")
        encoding = self.request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise InvalidRequest(
                f"content-encoding {encoding} is not supported",
                details={"error_code": "request_body_encoding_unsupported"},
            )
        return bytes(self._body)

    def json_body(self) -> dict[str, Any]:
        """The body of one of our own requests; nothing counts as `{}`. Raises InvalidRequest."""
        return parse_json(self.body() or b"{}")

    def answer_json(self, value: dict[str, Any]) -> None:
        self.set_header("content-type", "application/json")
        self.finish(json.dumps(value, ensure_ascii=False))

    async def answer_large(self, value: dict[str, Any]) -> None:
        """The same for megabytes: written in a thread, so that other streams move meanwhile."""
        data = await asyncio.to_thread(lambda: json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        self.set_header("content-type", "application/json")
        self.finish(data)

    async def while_connected(self, work: Coroutine[Any, Any, T], *, on_gone: Callable[[], None] | None = None) -> T:
        """Runs `work`, which is always begun, and cancels it when the client goes. Raises ClientGone then."""
        task = asyncio.ensure_future(work)

        def stop() -> None:
            if on_gone is not None:
                on_gone()
            # Not at once: a task that is cancelled before its first step never runs its own clean-up.
            asyncio.get_running_loop().call_soon(task.cancel)

        self._on_gone = stop
        if self.gone:
            stop()
        try:
            return await task
        except asyncio.CancelledError:
            if self.gone:
                raise ClientGone from None
            raise
        finally:
            self._on_gone = None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self.gone:
            return
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error of every endpoint, as the API's JSON."""
        exc_info = kwargs.get("exc_info")
        error = _api_error(exc_info[1] if exc_info else None, status_code, self.request.method or "", self.request.path)
        self.set_status(error.status)
        for name, value in error.headers().items():
            self.set_header(name, value)
        self.answer_json(error.body(self.request_id))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """A bug's place, without its message, which may quote what a user wrote."""
        if not isinstance(value, (ApiError, HTTPError)):
            name = typ.__name__ if typ else "error"
            log.error("%s %s: %s\n%s", self.request_id, self.request.path, name, "".join(traceback.format_tb(tb)))

    def compute_etag(self) -> str | None:
        return None


def _api_error(error: BaseException | None, status: int, method: str, path: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if status == 404:
        return NotFound(f"Not found: {path}")
    if status == 405:
        return MethodNotAllowed(f"Method not allowed: {method} {path}")
    if 400 <= status < 500:
        return InvalidRequest("The request is not valid HTTP for this endpoint")
    return ServerFault("Internal server error")
