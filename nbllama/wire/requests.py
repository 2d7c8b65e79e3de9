"""Request bodies → checked objects. Source: anthropic-api §2; clients match on the error texts.

Unknown fields are accepted and named in `ignored`; a field whose loss would change the meaning is refused instead.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from nbllama.wire.content import InputMessage, TextBlock, WireModel
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.history import check_messages

# Claude Code puts a line about the client here. It differs from one entry point to the next, and would cost the
# prefix cache for nothing.
_BILLING = "x-anthropic-billing-header:"

_Tag = TypeVar("_Tag", bound="CountTokensRequest")


def _system(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    if isinstance(value, list) and value and isinstance(value[0], dict):
        text = value[0].get("text")
        if isinstance(text, str) and text.startswith(_BILLING):
            return value[1:]
    return [] if value is None else value


def _list(value: Any) -> Any:
    return [] if value is None else value


class Tool(WireModel):
    """A tool that the client runs. `input_schema` is a JSON Schema of type object."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    defer_loading: bool | None = None


class ToolChoice(WireModel):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(WireModel):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None


class Extension(WireModel):
    """Our own field `nbllama`: what llama.cpp can do and the API has no word for."""

    seed: int | None = None
    min_p: float | None = Field(default=None, ge=0, le=1)


class CountTokensRequest(WireModel):
    """What determines the prompt. `tools` are those to show; `ignored` names fields that change nothing here."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[InputMessage]
    system: Annotated[list[TextBlock], BeforeValidator(_system)] = Field(default_factory=list)
    tools: Annotated[list[Tool], BeforeValidator(_list)] = Field(default_factory=list)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    _ignored: list[str] = PrivateAttr(default_factory=list)

    @property
    def ignored(self) -> list[str]:
        return self._ignored

    @property
    def thinking_enabled(self) -> bool:
        return self.thinking is not None and self.thinking.type in ("enabled", "adaptive")


class MessagesRequest(CountTokensRequest):
    """A request for an answer. `max_tokens` 0 computes the prompt and answers nothing."""

    max_tokens: int = Field(ge=0)
    stream: bool = False
    stop_sequences: Annotated[list[str], BeforeValidator(_list)] = Field(default_factory=list)
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    nbllama: Extension = Field(default_factory=Extension)

    @property
    def seed(self) -> int | None:
        return self.nbllama.seed

    @property
    def min_p(self) -> float | None:
        return self.nbllama.min_p


def parse_messages_request(body: bytes) -> MessagesRequest:
    """The request of a body for `/v1/messages`. Raises InvalidRequest."""
    request = _parse(body, MessagesRequest)
    _check_answer_fields(request)
    return request


def parse_count_tokens_request(body: bytes) -> CountTokensRequest:
    """The request of a body for `/v1/messages/count_tokens`. Raises InvalidRequest."""
    return _parse(body, CountTokensRequest)


def parse_json(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. Raises InvalidRequest, also for brackets nested beyond the interpreter's depth."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise InvalidRequest("The request body is not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The request body is not valid JSON: it must be an object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse(body: bytes, kind: type[_Tag]) -> _Tag:
    data = parse_json(body)
    _refuse_unsupported(data)
    ignored = _ignored_fields(data, kind)
    data, dropped = _without_server_tools(data)
    try:
        request = kind.model_validate(data)
    except ValidationError as error:
        raise InvalidRequest(_describe(error)) from error
    except RecursionError as error:
        raise InvalidRequest("The request body is nested too deeply") from error
    check_messages(request.messages)
    _check_tools(request)
    _check_thinking(request)
    request.tools = [tool for tool in request.tools if not tool.defer_loading]
    request._ignored = ignored + dropped
    return request


def _describe(error: ValidationError) -> str:
    """The first problem as `<path>: <text>`, which is how the API words it."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        text = f"String should match pattern '{first['ctx']['pattern']}'"
    return f"{path}: {text}" if path else text


def _refuse_unsupported(data: dict[str, Any]) -> None:
    """Fields that cannot be ignored without changing what the client gets."""
    if data.get("thread") is not None:
        details = {"error_code": "thread_unsupported_request"}
        raise InvalidRequest("thread: message threads are not supported", details=details)
    output_config = data.get("output_config")
    if (isinstance(output_config, dict) and output_config.get("format") is not None) or data.get("output_format"):
        raise InvalidRequest("output_config.format: structured outputs are not supported")
    for name in ("compaction", "mcp_servers"):
        if data.get(name):
            raise InvalidRequest(f"{name}: not supported")


def _ignored_fields(data: dict[str, Any], kind: type[CountTokensRequest]) -> list[str]:
    # A count needs no answer fields, and says nothing about them: clients send one body to both.
    known = set(MessagesRequest.model_fields) | {"metadata", "thread"}
    ignored = sorted(name for name, value in data.items() if name not in known and value is not None)
    choice = data.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool") and kind is MessagesRequest:
        # Checked here, but nothing forces the model yet.
        ignored.append("tool_choice")
    return ignored


def _without_server_tools(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Tools that Anthropic's servers run cannot run here; a request that also has others goes on without them."""
    tools = data.get("tools")
    if not isinstance(tools, list):
        return data, []
    kept, dropped = [], []
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom" and "input_schema" not in tool:
            if not kind.startswith(("web_search_", "web_fetch_", "code_execution_", "tool_search_")):
                raise InvalidRequest(f"tools.{index}: tools of type {kind!r} are not supported")
            dropped.append(f"tools.{index} ({kind})")
        else:
            kept.append(tool)
    return data | {"tools": kept}, dropped


def _check_tools(request: CountTokensRequest) -> None:
    for index, tool in enumerate(request.tools):
        if tool.input_schema.get("type") != "object":
            raise InvalidRequest(f"tools.{index}.custom.input_schema.type: Input should be 'object'")
    names = [tool.name for tool in request.tools]
    if len(set(names)) != len(names):
        raise InvalidRequest("tools: Tool names must be unique.")
    choice = request.tool_choice
    if choice is None or choice.type == "none":
        return
    if not request.tools:
        raise InvalidRequest("tool_choice: tool_choice may only be specified while providing tools.")
    if choice.type != "tool":
        return
    if choice.name is None:
        raise InvalidRequest("tool_choice.tool.name: Field required")
    if choice.name not in names:
        raise InvalidRequest(f"tool_choice: Tool '{choice.name}' not found in provided tools")


def _check_thinking(request: CountTokensRequest) -> None:
    thinking = request.thinking
    if thinking is None:
        return
    if thinking.type == "disabled" and thinking.display is not None:
        raise InvalidRequest("thinking.disabled.display: Extra inputs are not permitted")
    if thinking.type != "enabled":
        return
    if thinking.budget_tokens is None:
        raise InvalidRequest("thinking.enabled.budget_tokens: Field required")
    if thinking.budget_tokens < 1024:
        raise InvalidRequest("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(request, MessagesRequest) and request.max_tokens <= thinking.budget_tokens:
        raise InvalidRequest("`max_tokens` must be greater than `thinking.budget_tokens`")
    if request.tool_choice is not None and request.tool_choice.type in ("any", "tool"):
        raise InvalidRequest("Thinking may not be enabled when tool_choice forces tool use.")


def _check_answer_fields(request: MessagesRequest) -> None:
    if any(not stop.strip() for stop in request.stop_sequences):
        raise InvalidRequest("stop_sequences: each stop sequence must contain non-whitespace")
    if request.max_tokens == 0 and request.stream:
        raise InvalidRequest("max_tokens: 0 may not be combined with stream: true")
