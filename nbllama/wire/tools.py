"""The tools of a request and how they may be chosen. Source: anthropic-api §2.7 and §2.8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from nbllama.wire.client_tools import CLIENT_TYPES, definition, is_client_type
from nbllama.wire.content import Cacheable, WireModel
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.json_schema import is_schema

_SERVER_SIDE = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "mcp_toolset", "advisor_")
# Families of tools that the client runs, with schemas that only the API knows.
_TOOLSETS = ("computer_toolset_", "browser_toolset_")
TOOL_TYPES = ("custom", *CLIENT_TYPES, *(f"{prefix}*" for prefix in (*_SERVER_SIDE, *_TOOLSETS)))


class Tool(Cacheable):
    """A tool that the client runs. `input_schema` is a JSON Schema of type object."""

    type: Literal["custom"] | None = None
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    input_schema: dict[str, Any]
    description: str | None = None
    defer_loading: bool | None = None
    input_examples: list[dict[str, Any]] | None = None
    strict: bool | None = None


class ClientTool(Cacheable):
    """A tool that the client runs and that everybody knows by its `type`."""

    type: str
    name: str
    defer_loading: bool | None = None

    def as_tool(self) -> Tool:
        """With the schema and the words that belong to its type."""
        name, description, schema = definition(self.type)
        return Tool(name=name, description=description, input_schema=schema, defer_loading=self.defer_loading)


class ServerTool(Cacheable):
    """A tool that only the API can offer, by its `type`: its servers run it, or it alone knows the schema."""

    type: str
    name: str | None = None


def _tool_kind(tool: Any) -> str:
    type = tool.get("type") if isinstance(tool, dict) else None
    if type is None:
        return "custom"
    if isinstance(type, str) and is_client_type(type):
        return "client"
    return "server" if isinstance(type, str) and type.startswith((*_SERVER_SIDE, *_TOOLSETS)) else str(type)


SentTool = Annotated[
    Annotated[Tool, Tag("custom")] | Annotated[ClientTool, Tag("client")] | Annotated[ServerTool, Tag("server")],
    Discriminator(_tool_kind),
]
AnyTool = Tool | ClientTool | ServerTool


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


def check_tools(sent: Sequence[AnyTool], *, lenient: bool = False) -> None:
    """Raises InvalidRequest for what one tool alone cannot show. `lenient` lets pass what only the API minds."""
    names: set[str] = set()
    for index, tool in enumerate(sent):
        if isinstance(tool, ServerTool):
            continue
        _check_tool(tool, f"tools.{index}", lenient=lenient)
        if tool.name in names:
            raise InvalidRequest("tools: Tool names must be unique.")
        names.add(tool.name)
    if sent and not lenient and all(getattr(tool, "defer_loading", False) for tool in sent):
        raise InvalidRequest("tools: At least one tool must have defer_loading=false. All tools cannot be deferred.")


def _check_tool(tool: Tool | ClientTool, place: str, *, lenient: bool) -> None:
    if tool.defer_loading and tool.cache_control is not None and not lenient:
        raise InvalidRequest(f"{place}: tools with defer_loading=true cannot have cache_control")
    if isinstance(tool, ClientTool):
        expected = definition(tool.type)[0]
        if tool.name != expected:
            raise InvalidRequest(f"{place}.{tool.type}.name: Input should be '{expected}'")
        return
    place = f"{place}.custom.input_schema"
    schema_type = tool.input_schema.get("type")
    if schema_type != "object":
        text = "Field required" if schema_type is None else "Input should be 'object'"
        raise InvalidRequest(f"{place}.type: {text}")
    if not lenient and not is_schema(tool.input_schema):
        raise InvalidRequest(f"{place}: JSON schema is invalid. It must match JSON Schema draft 2020-12")


def check_tool_choice(choice: ToolChoice | None, sent: Sequence[AnyTool], offered: Sequence[Tool]) -> None:
    """Raises InvalidRequest for a choice that cannot be followed."""
    if choice is None or choice.type == "none":
        return
    if not sent:
        raise InvalidRequest("tool_choice: tool_choice may only be specified while providing tools.")
    if choice.type == "tool" and choice.name not in {tool.name for tool in offered}:
        elsewhere = any(isinstance(tool, ServerTool) and tool.name == choice.name for tool in sent)
        why = "runs on Anthropic's servers, not here" if elsewhere else "not found in provided tools"
        raise InvalidRequest(f"tool_choice: Tool '{choice.name}' {why}")
    if choice.type == "any" and not offered:
        raise InvalidRequest("tool_choice: none of the provided tools can be called here")
