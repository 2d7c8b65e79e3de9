"""The events of a streamed answer, as small frozen objects; `data()` gives the JSON of each.

Shapes: anthropic-api §4. Their order is not decided here but in `stream_states.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class MessageStart:
    """Opens the answer. `message` is a whole Message with empty content."""

    message: dict[str, Any]
    name: ClassVar[str] = "message_start"

    def data(self) -> dict[str, Any]:
        return {"type": self.name, "message": self.message}


@dataclass(frozen=True, slots=True)
class ContentBlockStart:
    index: int
    block: dict[str, Any]
    name: ClassVar[str] = "content_block_start"

    def data(self) -> dict[str, Any]:
        return {"type": self.name, "index": self.index, "content_block": self.block}


@dataclass(frozen=True, slots=True)
class ContentBlockDelta:
    """`delta` is one of text_delta, thinking_delta, signature_delta, input_json_delta."""

    index: int
    delta: dict[str, Any]
    name: ClassVar[str] = "content_block_delta"

    def data(self) -> dict[str, Any]:
        return {"type": self.name, "index": self.index, "delta": self.delta}


@dataclass(frozen=True, slots=True)
class ContentBlockStop:
    index: int
    name: ClassVar[str] = "content_block_stop"

    def data(self) -> dict[str, Any]:
        return {"type": self.name, "index": self.index}


@dataclass(frozen=True, slots=True)
class MessageDelta:
    """How the answer ended, and the whole usage (totals, not differences)."""

    stop_reason: str
    stop_sequence: str | None
    usage: dict[str, Any]
    # Of the beta, for those who asked for it.
    context_management: dict[str, Any] | None = None
    name: ClassVar[str] = "message_delta"

    def data(self) -> dict[str, Any]:
        delta = {
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": None,
            "container": None,
        }
        extra = {} if self.context_management is None else {"context_management": self.context_management}
        return {"type": self.name, "delta": delta, "usage": self.usage, **extra}


@dataclass(frozen=True, slots=True)
class MessageStop:
    name: ClassVar[str] = "message_stop"

    def data(self) -> dict[str, Any]:
        return {"type": self.name}


@dataclass(frozen=True, slots=True)
class Ping:
    """Keeps the line open. `progress` (state, load, position, prefill) is ours; other clients ignore it."""

    progress: dict[str, Any] = field(default_factory=dict)
    name: ClassVar[str] = "ping"

    def data(self) -> dict[str, Any]:
        return {"type": self.name, "nbllama": self.progress} if self.progress else {"type": self.name}


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Ends a stream whose headers are already out. `body` is `ApiError.body(request_id)`."""

    body: dict[str, Any]
    name: ClassVar[str] = "error"

    def data(self) -> dict[str, Any]:
        return self.body


Event = (
    MessageStart
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
    | Ping
    | ErrorEvent
)
