"""What carries the SDK's requests: to the worker's socket or another server, with an allow-list of headers.

The SDK is built on httpx2 (1.x and 2.x) or httpx (0.x); the library is handed in, so both work.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from collections.abc import Collection
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook.errors import interrupted
from nbllama.notebook.interrupts import Awake, Interrupts
from nbllama.notebook.kernel_link import link
from nbllama.notebook.sdk.watched_stream import WatchedEvents, watched, watched_async
from nbllama.notebook.trace import remember
from nbllama.views.visible import visible
from nbllama.wire.answers import new_id
from nbllama.wire.errors import ApiError, InvalidRequest, ServerFault
from nbllama.worker.connection import REQUEST_ID_HEADER, Endpoint

NOMINAL_URL = "http://localhost"
"""The base URL of a client whose requests go wherever the kernel's link says."""

# What the API knows. Anything else, ANTHROPIC_CUSTOM_HEADERS above all, is meant for another server; and the keys
# that the SDK sends are replaced by the endpoint's own.
_ALLOWED = {"accept", "content-type", "content-length", "transfer-encoding", "user-agent", "idempotency-key"}
_ALLOWED_PREFIXES = ("anthropic-", "x-stainless-")


def http_library() -> Any:
    """The library that the installed SDK is built on: httpx2 or httpx."""
    import anthropic

    modules = (base.__module__.partition(".")[0] for base in anthropic.DefaultHttpxClient.__mro__)
    return importlib.import_module(next(module for module in modules if module != "anthropic"))


class Route:
    """Where a client's requests go, and which of their headers. `fixed` is another server than the kernel's own."""

    def __init__(self, http: Any, fixed: Endpoint | None, own_headers: Collection[str]) -> None:
        self.http = http
        self.fixed: Endpoint | None = fixed
        self._own_headers = {name.lower() for name in own_headers}
        self._origin = _origin(http.URL(fixed.base_url if fixed else NOMINAL_URL))

    def endpoint(self, instead_of: Endpoint | None = None) -> Endpoint:
        """Blocks while a worker starts. Raises WorkerError."""
        return self.fixed or link.endpoint(on_wait=_say, instead_of=instead_of)

    def check(self, request: Any) -> None:
        """Raises InvalidRequest for a URL that is not this client's, as a copy with another `base_url` would have."""
        if _origin(request.url) != self._origin:
            raise InvalidRequest(
                f"this client does not talk to {request.url.host}: make one with nbllama.client(base_url=…, api_key=…)"
            )

    def request_to(self, endpoint: Endpoint, request: Any) -> Any:
        """The request as it goes out to `endpoint`."""
        url = request.url
        if self.fixed is None:
            url = self.http.URL(endpoint.base_url + request.url.raw_path.decode("ascii"))
        headers = {name: value for name, value in request.headers.items() if self._passes(name)}
        headers |= {"host": url.netloc.decode("ascii"), **endpoint.headers()}
        if endpoint.is_worker:
            headers[REQUEST_ID_HEADER] = new_id("req")
        return self.http.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )

    def carrier(self, kind: str, endpoint: Endpoint) -> Any:
        """An `HTTPTransport` or `AsyncHTTPTransport` to `endpoint`. Without proxies, as everything here."""
        # Connections are not kept: one to a worker that has ended would fail the next request.
        limits = self.http.Limits(max_connections=None, max_keepalive_connections=0)
        verify = ssl.create_default_context() if endpoint.base_url.startswith("https:") else False
        transport: Any = getattr(self.http, kind)
        return transport(verify=verify, trust_env=False, limits=limits, uds=endpoint.socket)

    def refusal(self, request: Any, error: NbllamaError) -> Any:
        """The answer to a request that reaches nobody, in the API's shape: the SDK then shows what `error` says."""
        api_error = error if isinstance(error, ApiError) else ServerFault(str(error), should_retry=False)
        return self.http.Response(api_error.status, headers=api_error.headers(), json=api_error.body(), request=request)

    def answered(self, request: Any, response: Any, endpoint: Endpoint) -> WatchedEvents | None:
        """Notes the answer to a message for `nbllama.last`; what watches its stream, if that must be watched."""
        if request.method != "POST" or not request.url.path.endswith("/v1/messages") or response.status_code >= 400:
            return None
        request_id = response.headers.get("request-id")
        if request_id:
            remember(request_id, endpoint)
        # A door watches its streams itself.
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        return WatchedEvents(request_id, endpoint) if streamed and endpoint.is_worker else None

    def broken_off(self, sent: Any, endpoint: Endpoint, interrupt: BaseException) -> None:
        """An interrupt before the first byte of an answer: its trace is `nbllama.last` all the same."""
        interrupted(interrupt)
        if endpoint.is_worker and sent.method == "POST" and sent.url.path.endswith("/v1/messages"):
            remember(sent.headers[REQUEST_ID_HEADER], endpoint)

    def _passes(self, name: str) -> bool:
        name = name.lower()
        return name in _ALLOWED or name in self._own_headers or name.startswith(_ALLOWED_PREFIXES)


class Transport:
    """Synchronous. One for each client."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._carrier: tuple[Endpoint, Any] | None = None

    def handle_request(self, request: Any) -> Any:
        with Interrupts():
            return self._handle(request)

    def _handle(self, request: Any) -> Any:
        route = self._route
        try:
            route.check(request)
            endpoint = route.endpoint()
            try:
                response = self._send(request, endpoint)
            except route.http.ConnectError:
                if route.fixed is not None:
                    raise
                # It ended since it was found. Nothing was sent yet, so a new one can answer.
                endpoint = route.endpoint(instead_of=endpoint)
                response = self._send(request, endpoint)
        except NbllamaError as error:
            return route.refusal(request, error)
        events = route.answered(request, response, endpoint)
        if events is not None:
            response.stream = watched(route.http, response.stream, events)
        return response

    def _send(self, request: Any, endpoint: Endpoint) -> Any:
        if self._carrier is None or self._carrier[0] != endpoint:
            self._carrier = (endpoint, self._route.carrier("HTTPTransport", endpoint))
        sent = self._route.request_to(endpoint, request)
        try:
            return self._carrier[1].handle_request(sent)
        except KeyboardInterrupt as interrupt:
            self._route.broken_off(sent, endpoint, interrupt)
            raise

    def close(self) -> None:
        if self._carrier is not None:
            self._carrier[1].close()
            self._carrier = None

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTransport:
    """The same for `AsyncAnthropic`. Looking for a worker happens in a thread."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._carrier: tuple[Endpoint, Any] | None = None

    async def handle_async_request(self, request: Any) -> Any:
        with Awake():
            return await self._handle(request)

    async def _handle(self, request: Any) -> Any:
        route = self._route
        try:
            route.check(request)
            endpoint = await asyncio.to_thread(route.endpoint)
            try:
                response = await self._send(request, endpoint)
            except route.http.ConnectError:
                if route.fixed is not None:
                    raise
                endpoint = await asyncio.to_thread(route.endpoint, endpoint)
                response = await self._send(request, endpoint)
        except NbllamaError as error:
            return route.refusal(request, error)
        events = route.answered(request, response, endpoint)
        if events is not None:
            response.stream = watched_async(route.http, response.stream, events)
        return response

    async def _send(self, request: Any, endpoint: Endpoint) -> Any:
        if self._carrier is None or self._carrier[0] != endpoint:
            self._carrier = (endpoint, self._route.carrier("AsyncHTTPTransport", endpoint))
        sent = self._route.request_to(endpoint, request)
        try:
            return await self._carrier[1].handle_async_request(sent)
        except asyncio.CancelledError as interrupt:
            self._route.broken_off(sent, endpoint, interrupt)
            raise

    async def aclose(self) -> None:
        if self._carrier is not None:
            await self._carrier[1].aclose()
            self._carrier = None

    async def __aenter__(self) -> AsyncTransport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _say(text: str) -> None:
    print(f"nbllama: {visible(text)}", file=sys.stderr)
