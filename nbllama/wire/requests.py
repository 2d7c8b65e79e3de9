"""Request bodies → checked objects. Source: anthropic-api §2; clients match on the error texts.

Unknown fields are accepted and named in `ignored`; a field whose loss would change the meaning is refused instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PrivateAttr

from nbllama.wire.caching import Breakpoint, breakpoints
from nbllama.wire.content import (
    CacheControl,
    DocumentBlock,
    InputMessage,
    Items,
    SearchResultBlock,
    TextBlock,
    ToolResultBlock,
    WireModel,
)
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.history import check_messages
from nbllama.wire.ignored import ignored_names
from nbllama.wire.offered_tools import offered_tools
from nbllama.wire.records import MAX_ALTERNATIVES
from nbllama.wire.thinking import Thinking, check_thinking
from nbllama.wire.tools import SentTool, Tool, ToolChoice, check_tool_choice, check_tools
from nbllama.wire.validation import parse_json, validate

__all__ = [
    "CountTokensRequest",
    "Extension",
    "MessagesRequest",
    "OutputConfig",
    "Thinking",
    "Tool",
    "ToolChoice",
    "parse_count_tokens_request",
    "parse_messages_request",
]

# Claude Code puts a line about the client here. It differs from one entry point to the next, and would cost the
# prefix cache for nothing.
_BILLING = "x-anthropic-billing-header:"
_SCHEMA_WORDS = frozenset(
    ("type", "enum", "const", "properties", "items", "prefixItems", "anyOf", "allOf", "oneOf", "$ref", "pattern")
)
_LLAMA_DEFAULT_SEED = 0xFFFFFFFF

_Request = TypeVar("_Request", bound="CountTokensRequest")


def without_billing(value: Any) -> Any:
    """A system prompt, a text or blocks, without that line; a text becomes blocks."""
    if isinstance(value, str):
        text = value.partition("\n")[2] if value.startswith(_BILLING) else value
        return [{"type": "text", "text": text}] if text else []
    if isinstance(value, list) and value and isinstance(value[0], dict):
        first = value[0].get("text")
        if isinstance(first, str) and first.startswith(_BILLING):
            return value[1:]
    return value


class JsonFormat(WireModel):
    """The answer is one JSON value that fits the schema."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(WireModel):
    """`effort` is what the template is told, and how much of an answer may be thinking."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(WireModel):
    """Who asks, for the real API's own purposes."""

    user_id: str | None = Field(default=None, max_length=256)


class Extension(WireModel):
    """Our own field `nbllama`: what llama.cpp can do and the API has no word for."""

    # The last number of 32 bits is llama.cpp's way of saying "any".
    seed: int | None = Field(default=None, ge=0, lt=_LLAMA_DEFAULT_SEED)
    min_p: float | None = Field(default=None, ge=0, le=1)
    # So many alternatives of each token are kept in the trace, with their probabilities; 0: none are computed.
    probabilities: int | None = Field(default=None, ge=0, le=MAX_ALTERNATIVES)


class CountTokensRequest(WireModel):
    """What determines the prompt. `tools` are those to show; `ignored` names what changes nothing here."""

    model: str = Field(min_length=1, max_length=256)
    messages: Annotated[Items[InputMessage], Field(max_length=100_000)]
    system: Annotated[Items[TextBlock], BeforeValidator(without_billing)] = Field(default=[])
    sent_tools: Items[SentTool] = Field(default=[], alias="tools")
    tool_choice: Annotated[ToolChoice, Field(discriminator="type")] | None = None
    thinking: Annotated[Thinking, Field(discriminator="type")] | None = None
    metadata: Metadata | None = None
    cache_control: CacheControl | None = None
    output_config: OutputConfig | None = None
    context_management: dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    # What clients before 1.0 call it.
    output_format: JsonFormat | None = None
    nbllama: Extension = Extension()
    _ignored: list[str] = PrivateAttr(default_factory=list)
    _tools: list[Tool] = PrivateAttr(default_factory=list)
    _breakpoints: list[Breakpoint] = PrivateAttr(default_factory=list)
    _lenient: bool = PrivateAttr(default=False)

    @property
    def ignored(self) -> list[str]:
        return self._ignored

    @property
    def tools(self) -> list[Tool]:
        """The tools that the model is shown: none that run elsewhere, none that no search has found yet."""
        return self._tools

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """Where the client wants the prompt to be kept, in the order of the prompt."""
        return self._breakpoints

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must fit."""
        wanted = (self.output_config.format if self.output_config else None) or self.output_format
        if wanted is None:
            return None
        return {} if self._lenient and not is_known_schema(wanted.json_schema) else wanted.json_schema

    @property
    def thinking_enabled(self) -> bool:
        return self.thinking is not None and self.thinking.type in ("enabled", "adaptive")


class MessagesRequest(CountTokensRequest):
    """A request for an answer. `max_tokens` 0 computes the prompt and answers nothing."""

    max_tokens: int = Field(ge=0)
    stream: bool = False
    stop_sequences: Items[str] = Field(default=[])
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    service_tier: Literal["auto", "standard_only"] | None = None

    @property
    def seed(self) -> int | None:
        return self.nbllama.seed

    @property
    def min_p(self) -> float | None:
        return self.nbllama.min_p

    @property
    def probabilities(self) -> int | None:
        return self.nbllama.probabilities


def is_known_schema(schema: dict[str, Any]) -> bool:
    """Whether a schema says anything that JSON Schema has a word for."""
    return not schema or not _SCHEMA_WORDS.isdisjoint(schema)


def parse_messages_request(body: bytes, *, lenient: bool = False) -> MessagesRequest:
    """The request of a body for `/v1/messages`. Raises InvalidRequest."""
    return messages_request(parse_json(body), lenient=lenient)


def messages_request(sent: dict[str, Any], *, lenient: bool = False) -> MessagesRequest:
    """The same for a body that is JSON already, which stays as it was sent."""
    request = _checked(sent, MessagesRequest, lenient=lenient)
    check_thinking(request.thinking, request.max_tokens, request.tool_choice)
    if any(not stop.strip() for stop in request.stop_sequences):
        raise InvalidRequest("stop_sequences: each stop sequence must contain non-whitespace")
    if request.max_tokens == 0:
        _check_prewarm(request)
    return request


def parse_count_tokens_request(body: bytes, *, lenient: bool = False) -> CountTokensRequest:
    """The request of a body for `/v1/messages/count_tokens`. Raises InvalidRequest."""
    request = _checked(parse_json(body), CountTokensRequest, lenient=lenient)
    check_thinking(request.thinking, None, request.tool_choice)
    return request


def _checked(sent: dict[str, Any], kind: type[_Request], *, lenient: bool) -> _Request:
    # A null is what a client writes for a field that it leaves out.
    data = {name: value for name, value in sent.items() if value is not None}
    _refuse_unsupported(data, generates=kind is MessagesRequest)
    request = validate(kind, data)
    check_messages(request.messages)
    if any(not block.text for block in request.system):
        raise InvalidRequest("system: text content blocks must be non-empty")
    check_tools(request.sent_tools, lenient=lenient)
    request._tools = offered_tools(request.sent_tools, request.messages, lenient=lenient)
    request._breakpoints = breakpoints(request.sent_tools, request.system, request.messages, request.cache_control)
    request._lenient = lenient
    check_tool_choice(request.tool_choice, request.sent_tools, request.tools)
    if request.output_schema is not None:
        _check_no_citations(request.messages)
    request._ignored = ignored_names(data, [tool.name for tool in request.tools])
    return request


def _refuse_unsupported(data: dict[str, Any], *, generates: bool) -> None:
    """Fields that cannot be ignored without changing what the client gets."""
    if "thread" in data:
        details = {"error_code": "thread_unsupported_request"}
        raise InvalidRequest("thread: message threads are not supported", details=details)
    # Where tokens are only counted, they change nothing: their tools are listed in `tools` or unknown.
    for name in ("compaction", "mcp_servers"):
        if generates and data.get(name):
            raise InvalidRequest(f"{name}: not supported")


def _check_no_citations(messages: list[InputMessage]) -> None:
    for index, message in enumerate(messages):
        for position, block in enumerate(message.content):
            parts = block.content if isinstance(block, ToolResultBlock) else [block]
            if any(isinstance(part, DocumentBlock | SearchResultBlock) and part.cited for part in parts):
                place = f"messages.{index}.content.{position}"
                raise InvalidRequest(f"{place}: citations may not be combined with output_config.format")


def _check_prewarm(request: MessagesRequest) -> None:
    """Nothing is generated, so nothing may be asked of it."""
    if request.stream:
        raise InvalidRequest("max_tokens: 0 may not be combined with stream: true")
    if request.thinking is not None and request.thinking.type == "enabled":
        raise InvalidRequest("max_tokens: 0 may not be combined with thinking")
    if request.output_schema is not None:
        raise InvalidRequest("max_tokens: 0 may not be combined with output_config.format")
    if request.tool_choice is not None and request.tool_choice.type in ("any", "tool"):
        raise InvalidRequest("max_tokens: 0 may not be combined with a tool_choice that forces a call")
