"""The tools of a request and how they may be chosen. Source: anthropic-api §2.7 and §2.8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from nbllama.wire.content import WireModel
from nbllama.wire.errors import InvalidRequest

_SERVER_SIDE = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_")
TOOL_TYPES = ("custom", *(f"{prefix}*" for prefix in _SERVER_SIDE))


class Tool(WireModel):
    """A tool that the client runs. `input_schema` is a JSON Schema of type object."""

    type: Literal["custom"] | None = None
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    input_schema: dict[str, Any]
    description: str | None = None
    defer_loading: bool | None = None


class ServerTool(WireModel):
    """A tool that Anthropic's servers run, by its `type`. It cannot run here."""

    type: str


def _tool_kind(tool: Any) -> str:
    type = tool.get("type") if isinstance(tool, dict) else None
    if type is None:
        return "custom"
    return "server" if isinstance(type, str) and type.startswith(_SERVER_SIDE) else str(type)


SentTool = Annotated[
    Annotated[Tool, Tag("custom")] | Annotated[ServerTool, Tag("server")],
    Discriminator(_tool_kind),
]


class _Choice(WireModel):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(_Choice):
    type: Literal["auto"] = "auto"


class AnyChoice(_Choice):
    type: Literal["any"] = "any"


class NoneChoice(_Choice):
    type: Literal["none"] = "none"


class NamedChoice(_Choice):
    type: Literal["tool"] = "tool"
    name: str


ToolChoice = AutoChoice | AnyChoice | NoneChoice | NamedChoice


def check_tools(sent: Sequence[Tool | ServerTool]) -> None:
    """Raises InvalidRequest for what one tool alone cannot show."""
    names: set[str] = set()
    for index, tool in enumerate(sent):
        if isinstance(tool, ServerTool):
            continue
        schema_type = tool.input_schema.get("type")
        if schema_type != "object":
            text = "Field required" if schema_type is None else "Input should be 'object'"
            raise InvalidRequest(f"tools.{index}.custom.input_schema.type: {text}")
        if tool.name in names:
            raise InvalidRequest("tools: Tool names must be unique.")
        names.add(tool.name)


def check_tool_choice(choice: ToolChoice | None, sent: Sequence[Tool | ServerTool], offered: Sequence[Tool]) -> None:
    """Raises InvalidRequest for a choice that cannot be followed."""
    if choice is None or choice.type == "none":
        return
    if not sent:
        raise InvalidRequest("tool_choice: tool_choice may only be specified while providing tools.")
    if choice.type == "tool" and choice.name not in {tool.name for tool in offered}:
        raise InvalidRequest(f"tool_choice: Tool '{choice.name}' not found in provided tools")
    if choice.type == "any" and not offered:
        raise InvalidRequest("tool_choice: none of the provided tools can be called here")
