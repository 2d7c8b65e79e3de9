"""The functions that a model may call: what it is told of them, and which one its call means.

The SDK makes the schema, from the annotations and the docstring (`beta_tool`). Imports anthropic: only when there are
tools.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nbllama.notebook.errors import ToolsError
from nbllama.notebook.near import near
from nbllama.notebook.phrases import bounded

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


@dataclass(frozen=True)
class Tool:
    """`call` takes the arguments as one dict, checks them, and returns the function's value, or its awaitable.

    `is_plain`: the function says nothing of the API, so a list that it returns is a list and no content blocks."""

    name: str
    definition: dict[str, Any]
    call: Callable[[Any], Any]
    is_plain: bool = True


class Toolbox:
    """Those of one run, in their order. Raises ToolsError for what cannot be a tool, and for a name given twice."""

    def __init__(self, functions: Iterable[Any]) -> None:
        if not isinstance(functions, Iterable) or isinstance(functions, str):
            raise ToolsError(f"tools: a list of functions is needed, as tools=[f, g], not {functions!r}")
        self._tools: dict[str, Tool] = {}
        for function in functions:
            tool = as_tool(function)
            if tool.name in self._tools:
                raise ToolsError(
                    f"tools: {tool.name} is there twice; give one another name: anthropic.beta_tool(f, name='…')"
                )
            self._tools[tool.name] = tool
        if not self._tools:
            raise ToolsError("tools: there is none; give functions, as tools=[f, g]")

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """What a request says of them."""
        return [tool.definition for tool in self._tools.values()]

    def find(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def unknown(self, name: str) -> str:
        """What a model is told that calls one that is not there."""
        hint = near(name, self._tools, most=1).replace("did", "Did", 1)
        return f"There is no tool {name!r}: there is {', '.join(self._tools)}. {hint}".rstrip()


def as_tool(function: Any) -> Tool:
    """A plain annotated function, async or not, or what the SDK's `beta_tool` and `beta_async_tool` made of one."""
    made = function if _is_the_sdks(function) else _made(function)
    if inspect.iscoroutinefunction(getattr(made, "func", None)) and not inspect.iscoroutinefunction(made.call):
        raise ToolsError(f"tools: {made.name} is async: decorate it with anthropic.beta_async_tool")
    definition = dict(made.to_dict())
    name = str(made.name)
    _check_name(name, function)
    if (definition.get("input_schema") or {"type": "object"}).get("type") != "object":
        raise ToolsError(f"tools: {name} takes *args or arguments by position alone; a model names its arguments")
    return Tool(name, definition, made.call, is_plain=made is not function)


def _is_the_sdks(function: Any) -> bool:
    return not isinstance(function, type) and hasattr(function, "to_dict") and hasattr(function, "call")


def _made(function: Any) -> Any:
    import anthropic

    if not callable(function):
        raise ToolsError(f"tools: a function is needed, not {bounded(repr(function), 80)}")
    _check_name(getattr(function, "__name__", ""), function)
    make = anthropic.beta_async_tool if inspect.iscoroutinefunction(function) else anthropic.beta_tool
    try:
        return make(function)
    except Exception as error:  # pydantic has several, for what it cannot make a schema of
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ToolsError(
            f"tools: no schema for {function.__name__}: {reason}\n"
            "→ annotate what a model can write: str, int, float, bool, list, dict, Literal, a pydantic model"
        ) from error


def _check_name(name: str, function: Any) -> None:
    if not _NAME.fullmatch(name):
        raise ToolsError(
            f"tools: {bounded(repr(function), 80)} has no name that a tool can have (letters, digits, _ and -)\n"
            "→ define it with def, or name it: anthropic.beta_tool(f, name='…')"
        )
