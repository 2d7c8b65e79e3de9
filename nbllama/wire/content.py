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


class CacheControl(WireModel):
    """A breakpoint: what is before its end may be read from the cache by a later request."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Cacheable(WireModel):
    """A part that may carry a breakpoint. It never changes the prompt."""

    cache_control: CacheControl | None = None


class TextBlock(Cacheable):
    type: Literal["text"] = "text"
    text: str


class ImageBlock(Cacheable):
    """An image; `source` as sent. No model here sees yet, so chat refuses it by name."""

    type: Literal["image"] = "image"
    source: dict[str, Any]


class Citations(WireModel):
    enabled: bool | None = None


class Citable(Cacheable):
    """A source that an answer may be asked to quote. No model here does."""

    citations: Citations | None = None

    @property
    def cited(self) -> bool:
        return self.citations is not None and bool(self.citations.enabled)


class DocumentBlock(Citable):
    """A document; `source` as sent. Text and blocks of text are shown as they are, a PDF by the text in it."""

    type: Literal["document"] = "document"
    source: dict[str, Any]
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Citable):
    type: Literal["search_result"] = "search_result"
    source: str
    title: str
    content: Items[TextBlock]


class ThinkingBlock(WireModel):
    """Thinking that comes back. Any signature is accepted, also none."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str | None = None
    # No breakpoint may be here (§2.5).
    cache_control: None = None


class RedactedThinkingBlock(WireModel):
    type: Literal["redacted_thinking"] = "redacted_thinking"
    data: str
    cache_control: None = None


class ToolUseBlock(Cacheable):
    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


class ToolReferenceBlock(Cacheable):
    """The name of a deferred tool that a search has found: from here on the model is shown it."""

    type: Literal["tool_reference"] = "tool_reference"
    tool_name: str


class UnavailableBlock(WireModel):
    """Something that only Anthropic's own tools read: without them the request would mean less than it says."""

    type: Literal["container_upload", "browser_state"]


ResultContent = Annotated[
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | UnavailableBlock,
    Field(discriminator="type"),
]


class ToolResultBlock(Cacheable):
    """What a tool gave. `content` may be absent, null, empty, a string or blocks."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    content: Annotated[Items[ResultContent], BeforeValidator(_blocks)] = []
    is_error: bool | None = None


class ServerToolUseBlock(Cacheable):
    """A call that another server has run by itself, in an answer that comes back."""

    type: Literal["server_tool_use", "mcp_tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ServerToolResultBlock(Cacheable):
    """What that call gave: in the same message as the call, in as many shapes as there are tools."""

    type: Literal[
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_result",
        "advisor_tool_result",
    ]
    tool_use_id: str
    content: Any = None


class ToolChangeBlock(WireModel):
    """A tool that comes or goes in the middle of a conversation, in a system message. `tool` as sent."""

    type: Literal["tool_addition", "tool_removal"]
    tool: dict[str, Any]


class CompactionBlock(Cacheable):
    """A summary that stands for everything before it; without content it changes nothing."""

    type: Literal["compaction"] = "compaction"
    content: str | None = None


class NoticeBlock(WireModel):
    """Something that another server noted in its answer and that no model reads."""

    type: Literal["fallback", "mcp_tool_listing"]


ContentBlock = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerToolUseBlock
    | ServerToolResultBlock
    | ToolChangeBlock
    | CompactionBlock
    | UnavailableBlock
    | NoticeBlock,
    Field(discriminator="type"),
]


class InputMessage(WireModel):
    """One message; a string as content is one text block. `clear_at` bounds how long a system message is shown."""

    role: Literal["user", "assistant", "system"]
    clear_at: Literal["next_user_message", "never"] | None = None
    content: Annotated[Items[ContentBlock], BeforeValidator(_blocks)]

    @model_validator(mode="before")
    @classmethod
    def _settings_need_no_content(cls, value: Any) -> Any:
        """A system message may carry settings (`output_config`) and say nothing."""
        if isinstance(value, dict) and value.get("role") == "system" and value.get("output_config") is not None:
            return {"content": []} | value
        return value
