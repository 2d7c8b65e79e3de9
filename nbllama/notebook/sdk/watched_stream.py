"""What passes of an answer's stream to the SDK: whole events, an end in any case, and nothing after an interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from nbllama.notebook.errors import interrupted
from nbllama.notebook.interrupts import Awake, Interrupts
from nbllama.notebook.kernel_link import link
from nbllama.notebook.sdk.open_streams import open_streams
from nbllama.wire.errors import ServerFault
from nbllama.wire.events import ErrorEvent
from nbllama.wire.sse import Decoder, encode
from nbllama.worker.connection import Endpoint

_TERMINAL = ("message_stop", "error")


class WatchedEvents:
    """Lets only whole events of a stream pass, and gives it an end when the worker could not.

    The SDK takes a stream that just stops for a finished one."""

    def __init__(self, request_id: str | None, endpoint: Endpoint) -> None:
        self._request_id = request_id
        self._endpoint = endpoint
        self._decoder = Decoder()
        self._rest = b""
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the events that `data` completes."""
        whole, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        whole += separator
        self.finished = self.finished or any(event.name in _TERMINAL for event in self._decoder.feed(whole))
        return whole

    def end(self) -> bytes:
        """What is missing: an `error` event, or nothing after a terminal one."""
        if self.finished:
            return b""
        self.finished = True
        link.forget(self._endpoint)
        error = ServerFault("the worker went away before the answer had ended; the next request starts a new one")
        return encode(ErrorEvent(error.body(self._request_id)))


def watched(http: Any, inner: Any, events: WatchedEvents) -> Any:
    """The SDK's stream of an answer, cut into whole events; an interrupted cell ends it."""

    class WatchedStream(http.SyncByteStream):  # type: ignore[misc]  # the base depends on the SDK
        def __iter__(self) -> Iterator[bytes]:
            chunks = iter(inner)
            try:
                # Also while the user's code has an event: in a cell with `await` nobody else would see it.
                with Interrupts():
                    while (data := _next(chunks, self.close)) is not None:
                        yield events.feed(data)
            except (http.NetworkError, http.RemoteProtocolError):
                pass
            yield events.end()

        def close(self) -> None:
            # A second interrupt must not leave the socket open, and the model at work.
            with Interrupts(held=True):
                inner.close()

    stream = WatchedStream()
    open_streams.add(stream)
    return stream


def watched_async(http: Any, inner: Any, events: WatchedEvents) -> Any:
    """The same to be awaited."""

    class WatchedStream(http.AsyncByteStream):  # type: ignore[misc]  # the base depends on the SDK
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                with Awake():
                    async for data in inner:
                        yield events.feed(data)
            except (http.NetworkError, http.RemoteProtocolError):
                pass
            except asyncio.CancelledError as interrupt:
                interrupted(interrupt)
                raise
            yield events.end()

        async def aclose(self) -> None:
            await inner.aclose()

    stream = WatchedStream()
    open_streams.add(stream)
    return stream


def _next(chunks: Iterator[bytes], close: Callable[[], None]) -> bytes | None:
    try:
        return next(chunks, None)
    except KeyboardInterrupt as interrupt:
        close()
        interrupted(interrupt)
        raise
