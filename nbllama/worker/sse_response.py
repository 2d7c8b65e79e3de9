"""One answer as a stream of server-sent events.

A pump drives the answer and a writer sends what is ready, in one write where several events are. Between them lies a
bounded outbox: a client that reads slowly slows its own answer down, and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from typing import TYPE_CHECKING

from tornado.iostream import StreamClosedError

from nbllama.wire.errors import ServerFault
from nbllama.wire.events import ErrorEvent
from nbllama.wire.sse import encode
from nbllama.worker.endpoint import Endpoint

if TYPE_CHECKING:
    from nbllama.answer.answer_request import Answer

log = logging.getLogger(__name__)

OUTBOX_BYTES = 64 << 10
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    # no-transform and x-accel-buffering: proxies must neither compress nor collect what should be seen at once.
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class Outbox:
    """Bytes on their way from the pump to the writer."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False

    async def put(self, data: bytes) -> None:
        """Adds data; returns when there is room for more."""
        self._data += data
        self._ready.set()
        if len(self._data) > OUTBOX_BYTES:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> bytes:
        """All that is ready, at least one event; empty when it is closed and everything was taken."""
        await self._ready.wait()
        data = bytes(self._data)
        self._data.clear()
        if not self._closed:
            self._ready.clear()
        self._room.set()
        return data

    def close(self) -> None:
        self._closed = True
        self._ready.set()


async def send_events(endpoint: Endpoint, answer: Answer) -> None:
    """Sends the headers at once, then the events. Raises ClientGone when nobody reads any more.

    `answer.cancel()` is called once if the client goes; the answer's generator is always driven or closed."""
    for name, value in STREAM_HEADERS.items():
        endpoint.set_header(name, value)
    outbox = Outbox()
    writer = asyncio.create_task(_write(endpoint, outbox))
    try:
        await endpoint.while_connected(_pump(answer, outbox), on_gone=answer.cancel)
        await writer
    finally:
        writer.cancel()


async def _write(endpoint: Endpoint, outbox: Outbox) -> None:
    try:
        await endpoint.flush()
        while data := await outbox.take():
            endpoint.write(data)
            await endpoint.flush()
    except StreamClosedError:
        # Seen here before the connection told: the pump must not wait for room that nobody will make.
        endpoint.on_connection_close()


async def _pump(answer: Answer, outbox: Outbox) -> None:
    try:
        async with contextlib.aclosing(answer.events()) as events:
            async for event in events:
                await outbox.put(encode(event))
    except Exception as error:  # the headers are out: a bug is told in the stream, as its one terminal event
        place = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s: %s\n%s", answer.request_id, type(error).__name__, place)
        await outbox.put(encode(ErrorEvent(ServerFault("Internal server error").body(answer.request_id))))
    finally:
        outbox.close()
