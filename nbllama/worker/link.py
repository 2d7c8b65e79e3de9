"""A door's side of the worker: found or started at the first request that may pass, held while the door is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.web import RequestHandler

from nbllama.errors import NbllamaError
from nbllama.wire.answers import new_id
from nbllama.wire.errors import ApiError, Overloaded, RequestTooLarge, ServerFault
from nbllama.worker import connection
from nbllama.worker.errors import WorkerDied, WorkerError
from nbllama.worker.relay import relay

MAX_BODY = 32 << 20
"""Bytes of a request body, as the Anthropic API allows them."""

_CLOSING = "The door to the worker is closing"


class WorkerLink:
    """The worker that a door relays to. All methods belong to one event loop, which none of them blocks."""

    def __init__(
        self, ensure: Callable[[], connection.Endpoint], *, kind: str, default_model: str | None = None
    ) -> None:
        """`ensure` finds or starts the worker (it may block: it runs in a thread). `default_model` is the door's.

        `kind` is what the door attaches as: "jupyter" or "serve"."""
        self.default_model = default_model
        self._ensure = ensure
        self._kind = kind
        self._relays: set[asyncio.Task[Any]] = set()
        self._lock = asyncio.Lock()
        self._held: tuple[connection.Endpoint, connection.Attachment] | None = None
        self._closed = False

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return len(self._relays)

    async def relay(self, handler: RequestHandler, path: str, client: str = "local") -> None:
        """Answers `handler`'s request through the worker. Never raises for a failure: the client is told."""
        task = asyncio.ensure_future(self._answer(handler, path, client))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        await task

    async def endpoint(self) -> connection.Endpoint:
        """The worker, attached to. Raises NbllamaError if there is none and none can be started."""
        async with self._lock:
            if self._closed:
                raise Overloaded(_CLOSING)
            if self._held is not None:
                endpoint, attachment = self._held
                if attachment.alive:
                    return endpoint
                self._detach()
            reaching = asyncio.ensure_future(asyncio.to_thread(self._reach))
            try:
                self._held = await asyncio.shield(reaching)
            except asyncio.CancelledError:
                # The thread cannot be told: what it comes back with is nobody's.
                reaching.add_done_callback(_let_go)
                raise
            if self._closed:
                self._detach()
                raise Overloaded(_CLOSING)
            return self._held[0]

    async def close(self) -> None:
        """Ends the answers that are on their way, each with an error, and detaches.

        The worker decides by itself when to end."""
        self._closed = True
        relays = list(self._relays)
        for relay_task in relays:
            relay_task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        self._detach()

    async def _answer(self, handler: RequestHandler, path: str, client: str) -> None:
        try:
            if len(handler.request.body) > MAX_BODY:
                raise RequestTooLarge(f"The request body is larger than {MAX_BODY >> 20} MiB")
            await self._relay(handler, path, client)
        except NbllamaError as error:
            refuse(handler, _as_api_error(error))
        except asyncio.CancelledError:
            refuse(handler, Overloaded(_CLOSING))

    async def _relay(self, handler: RequestHandler, path: str, client: str) -> None:
        endpoint = await self.endpoint()
        try:
            await self._relay_to(endpoint, handler, path, client)
        except WorkerDied:
            raise
        except WorkerError:
            # It ended since it was found. Nothing was sent yet, so a new one can answer.
            await self._relay_to(await self.endpoint(), handler, path, client)

    async def _relay_to(self, endpoint: connection.Endpoint, handler: RequestHandler, path: str, client: str) -> None:
        complete = False
        try:
            complete = await relay(handler, endpoint, path, client, default_model=self.default_model)
        finally:
            # The next request must not meet a worker that is just dying: it may still accept connections.
            if not complete and self._held is not None and self._held[0] is endpoint:
                self._detach()

    def _reach(self) -> tuple[connection.Endpoint, connection.Attachment]:
        endpoint = self._ensure()
        if self._closed:
            raise Overloaded(_CLOSING)
        return endpoint, connection.attach(endpoint, self._kind)

    def _detach(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None


def _let_go(reaching: asyncio.Future[tuple[connection.Endpoint, connection.Attachment]]) -> None:
    if not reaching.cancelled() and reaching.exception() is None:
        reaching.result()[1].close()


def request_id(handler: RequestHandler) -> str:
    """The id of the handler's request, made at the first call; the worker's replaces it in relayed answers."""
    found: str | None = getattr(handler, "_nbllama_request_id", None)
    if found is None:
        found = new_id("req")
        handler._nbllama_request_id = found  # type: ignore[attr-defined]  # lives as long as the request
    return found


def refuse(handler: RequestHandler, error: ApiError, *, status: int | None = None) -> None:
    """Answers with `error` as JSON in Anthropic's shape, or breaks the connection if an answer had begun."""
    if handler._headers_written:
        handler.detach().close()
        return
    handler.set_status(status or error.status)
    for name, value in error.headers().items():
        handler.set_header(name, value)
    handler.set_header("request-id", request_id(handler))
    handler.set_header("Content-Type", "application/json")
    handler.finish(error.body(request_id(handler)))


def _as_api_error(error: NbllamaError) -> ApiError:
    if isinstance(error, ApiError):
        return error
    # A worker that died may answer the next time; one that cannot start will not.
    return ServerFault(str(error), should_retry=None if isinstance(error, WorkerDied) else False)
