"""The answer as one object: Message, Usage, ModelInfo, and the ids they carry. Shapes: anthropic-api §1 and §3."""

from __future__ import annotations

import copy
import json
import secrets
from dataclasses import dataclass
from typing import Any

from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    Event,
    MessageDelta,
    MessageStart,
)

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """A fresh id, `msg_…`: 24 characters of base 62, enough never to meet itself."""
    return f"{prefix}_" + "".join(secrets.choice(_BASE62) for _ in range(24))


@dataclass(slots=True)
class Usage:
    """Tokens of one request. `input_tokens` excludes what was read from the cache: clients add the numbers up."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    created_for_an_hour: int = 0

    def to_dict(self, *, final: bool = False) -> dict[str, Any]:
        """The JSON. Only the `final` one says how many of the output tokens were thinking."""
        usage: dict[str, Any] = {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_creation_input_tokens - self.created_for_an_hour,
                "ephemeral_1h_input_tokens": self.created_for_an_hour,
            },
            "output_tokens": self.output_tokens,
            "server_tool_use": None,
            "service_tier": "standard",
            "inference_geo": "not_available",
        }
        if final:
            usage["output_tokens_details"] = {"thinking_tokens": self.thinking_tokens}
        return usage


def new_message(id: str, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """A Message before its first block, as `message_start` carries it."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
        "usage": usage,
    }


class MessageBuilder:
    """Events → Message: the answer that is not streamed is the stream, added up."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._parts: list[str] = []

    def add(self, event: Event) -> None:
        """Takes the next event, in stream order; pings and errors change nothing."""
        if isinstance(event, MessageStart):
            self._message = copy.deepcopy(event.message)
        elif isinstance(event, ContentBlockStart):
            self.message()["content"].append(copy.deepcopy(event.block))
            self._parts = []
        elif isinstance(event, ContentBlockDelta):
            self._add_delta(self.message()["content"][event.index], event.delta)
        elif isinstance(event, ContentBlockStop):
            self._close(self.message()["content"][event.index])
        elif isinstance(event, MessageDelta):
            message = self.message()
            message["stop_reason"], message["stop_sequence"] = event.stop_reason, event.stop_sequence
            message["usage"] = message["usage"] | event.usage
            if event.context_management is not None:
                message["context_management"] = event.context_management

    def message(self) -> dict[str, Any]:
        """The Message so far. Raises ValueError before its start."""
        if self._message is None:
            raise ValueError("the stream has not started")
        return self._message

    def _add_delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        match delta["type"]:
            case "text_delta":
                self._parts.append(delta["text"])
            case "thinking_delta":
                self._parts.append(delta["thinking"])
            case "input_json_delta":
                self._parts.append(delta["partial_json"])
            case "signature_delta":
                block["signature"] = delta["signature"]

    def _close(self, block: dict[str, Any]) -> None:
        text = "".join(self._parts)
        if block["type"] == "tool_use":
            block["input"] = json.loads(text) if text else {}
        elif block["type"] in ("text", "thinking"):
            block[block["type"]] += text


def model_info(
    id: str,
    display_name: str,
    created_at: str,
    *,
    max_input_tokens: int | None = None,
    thinking: bool | None = None,
) -> dict[str, Any]:
    """The API's ModelInfo. `created_at` in RFC 3339. `thinking` None: not known before the model is loaded."""
    info: dict[str, Any] = {
        "id": id,
        "type": "model",
        "display_name": display_name,
        "created_at": created_at,
        "lifecycle": "active",
        "line": None,
        "deprecated_at": None,
        "retires_at": None,
        "max_input_tokens": max_input_tokens,
        "max_tokens": max_input_tokens,
    }
    if thinking is not None:
        info["capabilities"] = _capabilities(thinking)
    return info


def _capabilities(thinking: bool) -> dict[str, Any]:
    no, yes = {"supported": False}, {"supported": True}
    yes_no = {"supported": thinking}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "image_input": no,
        # By their text.
        "pdf_input": yes,
        "structured_outputs": yes,
        "context_management": no,
        "effort": {"supported": False, "low": no, "medium": no, "high": no, "max": no},
        "server_tools": {"supported": False, "web_search": no, "code_execution": no},
        "thinking": {
            "supported": thinking,
            "types": {"adaptive": yes_no, "between_tools": no, "disabled": yes, "enabled": yes_no},
        },
    }
