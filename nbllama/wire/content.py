"""The content blocks of a request. Source: anthropic-api §2.4.

Clients echo what they were sent: unknown keys and nulls are tolerated everywhere, unknown block types are not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator


class WireModel(BaseModel):
    """A part of a request: types are checked without coercion, unknown keys are left out."""

    model_config = ConfigDict(extra="ignore", strict=True)


Item = TypeVar("Item")
# The first problem is the answer. Without FailFast every item of a wrong list is described: 8 s and 1.3 GB for a body
# of 2 MB that holds a million numbers.
Items = Annotated[list[Item], FailFast()]


def _blocks(value: Any) -> Any:
    """A string is one text block; nothing, as a tool result may have, is none."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    return [] if value is None else value


class TextBlock(WireModel):
    type: Literal["text"] = "text"
    text: str


class ImageBlock(WireModel):
    """An image; `source` as sent. No model here sees yet, so chat refuses it by name."""

    type: Literal["image"] = "image"
    source: dict[str, Any]


class DocumentBlock(WireModel):
    """A document; `source` as sent (`{"type": "text", "data": …}` is the one that becomes text)."""

    type: Literal["document"] = "document"
    source: dict[str, Any]
    title: str | None = None
    context: str | None = None


class SearchResultBlock(WireModel):
    type: Literal["search_result"] = "search_result"
    source: str
    title: str
    content: Items[TextBlock]


class ThinkingBlock(WireModel):
    """Thinking that comes back. Any signature is accepted, also none."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(WireModel):
    type: Literal["redacted_thinking"] = "redacted_thinking"
    data: str


class ToolUseBlock(WireModel):
    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


ResultContent = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]


class ToolResultBlock(WireModel):
    """What a tool gave. `content` may be absent, null, empty, a string or blocks."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    content: Annotated[Items[ResultContent], BeforeValidator(_blocks)] = []
    is_error: bool | None = None


ContentBlock = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock,
    Field(discriminator="type"),
]


class InputMessage(WireModel):
    """One message; a string as content is one text block."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[Items[ContentBlock], BeforeValidator(_blocks)]

    @model_validator(mode="before")
    @classmethod
    def _settings_need_no_content(cls, value: Any) -> Any:
        """A system message may carry settings (`output_config`) and say nothing."""
        if isinstance(value, dict) and value.get("role") == "system" and value.get("output_config") is not None:
            return {"content": []} | value
        return value
