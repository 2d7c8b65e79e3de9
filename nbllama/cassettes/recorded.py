"""What passed between a client and a server → an exchange of a cassette. Pure."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from nbllama.wire.answers import MessageBuilder
from nbllama.wire.cassette_file import Exchange
from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    Event,
    MessageDelta,
    MessageStart,
)
from nbllama.wire.records import RequestRecord
from nbllama.wire.sse import Decoder

TERMINAL = ("message_stop", "error")
RETRY_HEADERS = ("retry-after", "x-should-retry")
_ENDINGS = {"tool_use": "tool_use", "max_tokens": "max_tokens", "stop_sequence": "stop_sequence"}


@dataclass
class Heard:
    """The answer to one message as it was heard: events with seconds since the request was sent."""

    request: dict[str, Any]
    request_id: str
    created: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    events: list[list[Any]] = field(default_factory=list)
    _decoder: Decoder = field(default_factory=Decoder)

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes of a stream; says whether its last event was among them."""
        at = round(time.monotonic() - self.began, 6)
        for told in self._decoder.feed(data):
            with contextlib.suppress(ValueError):
                event = told.json()
                if isinstance(event, dict) and isinstance(event.get("type"), str):
                    self.events.append([at, event])
        return self.ended

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1][1]["type"] in TERMINAL

    def whole(self, message: dict[str, Any]) -> None:
        """Takes an answer that was no stream."""
        at = round(time.monotonic() - self.began, 6)
        self.events = [[at, event] for event in events_of(message)]

    def record(self) -> RequestRecord:
        """A trace made of what was heard, where the server keeps none: without prompt and tokens."""
        message = message_of([event for _, event in self.events])
        last = self.events[-1][1] if self.events else {}
        error = last.get("error") if last.get("type") == "error" else None
        told = (event.get("message") for _, event in self.events if event["type"] == "message_start")
        start: dict[str, Any] = next((message for message in told if isinstance(message, dict)), {})
        first = next((at for at, e in self.events if e["type"] == "content_block_delta"), None)
        timings = {"total_s": self.events[-1][0]} if self.events else {}
        model = str(start.get("model") or "")
        return RequestRecord(
            id=self.request_id,
            message_id=str(start.get("id") or ""),
            client="local",
            model=str(self.request.get("model") or ""),
            created=self.created,
            stream=self.request.get("stream") is True,
            request=self.request,
            events=self.events,
            timings=timings if first is None else {**timings, "first_token_s": first},
            ending="error" if error else _ENDINGS.get(str((message or {}).get("stop_reason")), "done"),
            error=error,
            message=None if error else message,
            model_id=model,
        )


def message_of(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The Message that the events of a stream add up to; None if they are not whole."""
    builder = MessageBuilder()
    try:
        for data in events:
            if (event := _event(data)) is not None:
                builder.add(event)
        return builder.message() if events and events[-1]["type"] == "message_stop" else None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return None


def events_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The stream that a Message could have come as: one delta for each block."""
    usage = message.get("usage") or {}
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message.get("content") or []):
        opened, deltas = _opened(block)
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ending = {name: message.get(name) for name in ("stop_reason", "stop_sequence", "stop_details", "container")}
    events.append({"type": "message_delta", "delta": ending, "usage": usage})
    return [*events, {"type": "message_stop"}]


def refusal(path: str, request: dict[str, Any], status: int, headers: dict[str, str], answer: Any) -> Exchange:
    """An answer that is no Message: a count, or an error before the first event."""
    kept = {name: headers[name] for name in RETRY_HEADERS if name in headers}
    told = {name: value for name, value in answer.items() if name != "request_id"} if isinstance(answer, dict) else None
    return Exchange(path, request, status=status, headers=kept, answer=told)


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text", "")}]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block.get("thinking", "")}]
            deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use":
            partial = json.dumps(block.get("input") or {}, ensure_ascii=False)
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": partial}]
    return block, []


def _event(data: dict[str, Any]) -> Event | None:
    match data["type"]:
        case "message_start":
            return MessageStart(data["message"])
        case "content_block_start":
            return ContentBlockStart(data["index"], data["content_block"])
        case "content_block_delta":
            return ContentBlockDelta(data["index"], data["delta"])
        case "content_block_stop":
            return ContentBlockStop(data["index"])
        case "message_delta":
            delta = data["delta"]
            edited = data.get("context_management")
            return MessageDelta(delta["stop_reason"], delta.get("stop_sequence"), data.get("usage") or {}, edited)
    return None
