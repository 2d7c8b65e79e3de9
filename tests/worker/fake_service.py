"""A stand-in for answer's Service: the request's model says how the answer behaves. No engine, no model.

done     a short answer            gate     waits in the middle until `service.gate` is set
endless  never ends by itself      flood    many large events
bug      raises in the middle      late     refuses only after a while
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from nbllama.answer.service import Counted
from nbllama.wire.errors import NotFound, Overloaded, ServerFault
from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
)

PROMPT = "a secret prompt"
FLOOD_EVENTS = 400
FLOOD_TEXT = "x" * 10_000
USAGE = {"input_tokens": 1, "output_tokens": 1}


class FakeAnswer:
    def __init__(self, service: FakeService, request: dict[str, Any], request_id: str) -> None:
        self.stream = bool(request.get("stream"))
        self.model_id = "fäke" if request["model"] == "umlaut" else "fake"
        self.ignored = list(request.get("ignored", []))
        self.request_id = request_id
        self.cancels = 0
        self.closed = False
        self.n_sent = 0
        self._behaviour = request["model"]
        self._service = service

    async def events(self) -> AsyncIterator[Event]:
        try:
            yield MessageStart({"id": "msg_fake", "type": "message", "role": "assistant", "content": []})
            yield ContentBlockStart(0, {"type": "text", "text": ""})
            async for event in self._middle():
                self.n_sent += 1
                yield event
                if isinstance(event, ErrorEvent):
                    return
            yield ContentBlockStop(0)
            yield MessageDelta("end_turn", None, USAGE)
            yield MessageStop()
        finally:
            self.closed = True

    async def message(self) -> dict[str, Any]:
        text = ""
        async for event in self.events():
            if isinstance(event, ContentBlockDelta):
                text += event.delta["text"]
            if isinstance(event, ErrorEvent):
                raise ServerFault("ended in an error")
        return {"id": "msg_fake", "type": "message", "content": [{"type": "text", "text": text}]}

    def cancel(self) -> None:
        self.cancels += 1

    async def _middle(self) -> AsyncIterator[Event]:
        yield _text("Hello")
        if self._behaviour == "bug":
            raise RuntimeError(PROMPT)
        if self._behaviour == "endless":
            await asyncio.Event().wait()
        if self._behaviour == "gate":
            if await self._service.wait_for_gate():
                yield _text(" again")
            else:
                yield ErrorEvent(Overloaded("the server is stopping").body(self.request_id))
        if self._behaviour == "flood":
            for _ in range(FLOOD_EVENTS):
                yield _text(FLOOD_TEXT)


class FakeService:
    lenient = False

    def __init__(self) -> None:
        self.answers: list[FakeAnswer] = []
        self.clients: list[str] = []
        self.loads: list[tuple[str, int | None]] = []
        self.cancelled_early = 0
        self.gate = asyncio.Event()
        self._closed = asyncio.Event()

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self._closed.set()

    async def drain(self, timeout: float) -> None:
        pass

    async def wait_for_gate(self) -> bool:
        """True if the gate opened, False if the service closed."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.gate, self._closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self.gate.is_set()

    async def messages(
        self, body: bytes, *, client: str, request_id: str, default_model: str | None = None, betas: Sequence[str] = ()
    ) -> FakeAnswer:
        request = json.loads(body)
        self.clients.append(client)
        if request["model"] == "unknown":
            raise NotFound("model: unknown")
        if request["model"] == "busy":
            raise Overloaded("Overloaded", retry_after=3)
        if request["model"] == "late":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled_early += 1
                raise
        if request["model"] == "broken":
            raise RuntimeError(PROMPT)
        answer = FakeAnswer(self, request, request_id)
        self.answers.append(answer)
        return answer

    async def counted(
        self, body: bytes, *, client: str, default_model: str | None = None, betas: Sequence[str] = ()
    ) -> Counted:
        return Counted(len(body), "fake", [])

    def models(self) -> list[dict[str, Any]]:
        return [self.model("fake"), {"id": "other", "type": "model"}]

    def model(self, id: str) -> dict[str, Any]:
        if id not in ("fake", "a/b"):
            raise NotFound(f"model: {id}")
        return {"id": id, "type": "model"}

    async def load(self, ref: str, *, ctx: int | None = None) -> dict[str, Any]:
        self.loads.append((ref, ctx))
        return {"id": ref, "state": "loaded", "n_ctx": ctx}

    async def unload(self, id: str) -> dict[str, Any]:
        return {"id": id, "state": "unloaded"}

    async def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [{"id": 1, "piece": body["text"]}]}

    async def format(self, model_id: str) -> dict[str, Any]:
        return {"id": model_id or "fake", "family": "hermes"}

    def status(self) -> dict[str, Any]:
        return {"models": [], "requests_total": len(self.answers), "requests_running": 0, "requests_waiting": 0}

    def traces(self, client: str) -> list[dict[str, Any]]:
        return [{"id": "req_1", "client": client}]

    def trace_data(self, id: str, client: str) -> bytes:
        if id != "req_1":
            raise NotFound(f"no trace {id}")
        return json.dumps({"id": id, "client": client}).encode()


def _text(text: str) -> ContentBlockDelta:
    return ContentBlockDelta(0, {"type": "text_delta", "text": text})
