"""Which tools the model is shown: those of the request, as the conversation has revealed, added and removed them.

Source: anthropic-api §2.7 (deferred tools) and §1 (mid-conversation tool changes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from nbllama.wire.content import (
    InputMessage,
    ServerToolResultBlock,
    ToolChangeBlock,
    ToolReferenceBlock,
    ToolResultBlock,
)
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.tools import AnyTool, ClientTool, SentTool, ServerTool, Tool, check_tools
from nbllama.wire.validation import validate


class _Definition(BaseModel):
    tools: list[SentTool]


def offered_tools(sent: Sequence[AnyTool], messages: Sequence[InputMessage], *, lenient: bool = False) -> list[Tool]:
    """The tools in the order in which they were sent. Raises InvalidRequest for a reference to none of them."""
    known = {tool.name: _plain(tool) for tool in sent if not isinstance(tool, ServerTool)}
    shown = {name for name, tool in known.items() if not tool.defer_loading}
    for index, message in enumerate(messages):
        for position, block in enumerate(message.content):
            place = f"messages.{index}.content.{position}"
            if isinstance(block, ToolChangeBlock):
                _change(block, place, known, shown, lenient=lenient)
            elif isinstance(block, ServerToolResultBlock):
                # Found by another server, perhaps among tools that are not sent any more.
                shown |= {name for name in _found(block.content) if name in known}
            elif isinstance(block, ToolResultBlock):
                shown |= set(_referenced(block, place, known))
    return [tool for name, tool in known.items() if name in shown]


def _plain(tool: Tool | ClientTool) -> Tool:
    return tool.as_tool() if isinstance(tool, ClientTool) else tool


def _change(block: ToolChangeBlock, place: str, known: dict[str, Tool], shown: set[str], *, lenient: bool) -> None:
    kind = block.tool.get("type")
    if kind == "tool_definition" and block.type == "tool_addition":
        tools = validate(_Definition, {"tools": [block.tool.get("definition")]}).tools
        check_tools(tools, lenient=lenient)
        for tool in tools:
            if not isinstance(tool, ServerTool):
                known[tool.name] = _plain(tool)
                shown.add(tool.name)
    elif kind == "tool_reference":
        name = block.tool.get("name", block.tool.get("tool_name"))
        if not isinstance(name, str) or name not in known:
            raise _unresolved(place, name)
        (shown.add if block.type == "tool_addition" else shown.discard)(name)
    else:
        raise InvalidRequest(f"{place}.tool.type: Input should be 'tool_reference' or 'tool_definition'")


def _referenced(block: ToolResultBlock, place: str, known: dict[str, Tool]) -> Iterator[str]:
    for part in block.content:
        if isinstance(part, ToolReferenceBlock):
            if part.tool_name not in known:
                raise _unresolved(place, part.tool_name)
            yield part.tool_name


def _found(content: Any) -> Iterator[str]:
    references = content.get("tool_references") if isinstance(content, dict) else None
    for reference in references if isinstance(references, list) else []:
        name = reference.get("tool_name") if isinstance(reference, dict) else None
        if isinstance(name, str):
            yield name


def _unresolved(place: str, name: Any) -> InvalidRequest:
    text = f"{place}: Tool reference '{str(name)[:128]}' not found in available tools"
    return InvalidRequest(text, details={"error_code": "tool_reference_unresolved"})
