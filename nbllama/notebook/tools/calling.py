"""One call: from the model's arguments to what the model is told, whatever the function does."""

from __future__ import annotations

import asyncio
import inspect
import reprlib
import time
import traceback
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from nbllama.notebook.tools import results
from nbllama.notebook.tools.async_tools import AsyncTools
from nbllama.notebook.tools.toolbox import Tool

State = Literal["waiting", "asked", "running", "ok", "error", "declined", "not run", "interrupted"]

_NOT_THE_USERS = {"nbllama", "anthropic", "pydantic", "pydantic_core", "asyncio", "concurrent"}


@dataclass
class Call:
    """One that the model made. `content` is what it is told, `value` the very object that the function returned.

    `seconds` is how long the function ran; `traceback` that of an exception, for you and not for the model."""

    id: str
    name: str
    arguments: Any
    state: State = "waiting"
    content: results.Content = ""
    value: Any = None
    seconds: float | None = None
    traceback: str = ""
    _started: float = field(default=0.0, repr=False)

    @property
    def is_error(self) -> bool:
        """Whether the model is told of a failure."""
        return self.state != "ok"

    @property
    def result(self) -> dict[str, Any]:
        """The `tool_result` block."""
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": self.id, "content": self.content}
        return block | ({"is_error": True} if self.is_error else {})

    def end(self, state: State, content: results.Content) -> None:
        self.state, self.content = state, content

    def start_clock(self) -> None:
        self._started = time.perf_counter()
        self.state, self.seconds = "running", 0.0

    def tick(self) -> None:
        """Brings `seconds` up to now, while it runs."""
        if self.state == "running":
            self.seconds = time.perf_counter() - self._started

    def run(self, tool: Tool, loop: AsyncTools, limit: int = results.LIMIT) -> None:
        """Runs the function. What it raises is told to the model; a KeyboardInterrupt passes."""
        self.start_clock()
        try:
            value = tool.call(self.arguments)
            if inspect.isawaitable(value):
                value = loop.wait(value)
            self.tick()
            self.value = value
            self.end("ok", results.content_of(value, is_plain=tool.is_plain, limit=limit))
        except results.NotText as error:
            self.end("error", str(error))
        # exit() in a tool must not end the kernel, a task that cancels itself not the cell.
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            self.tick()
            self._fail(error, limit)

    def _fail(self, error: BaseException, limit: int) -> None:
        if (text := _misfit(error)) is not None:
            return self.end("error", results.cut(f"The arguments do not fit {self.name}: {text}", limit))
        self.traceback = _traceback(_raised_by_tool(error))
        if (content := _own_content(error)) is not None:
            return self.end("error", content)
        lines = traceback.format_exception_only(_raised_by_tool(error))
        self.end("error", results.cut("".join(lines).strip(), limit))


def _misfit(error: BaseException) -> str | None:
    """What is wrong with the arguments, by field; None if it was not them."""
    if isinstance(error, TypeError) and error.__traceback__ and _users_part(error.__traceback__) is None:
        return str(error)
    cause = _validation(error)
    if cause is None or _users_part(cause.__traceback__) is not None:
        return None
    return "; ".join(_problem(problem) for problem in cause.errors(include_url=False))


def _validation(error: BaseException) -> Any:
    """pydantic's error under the SDK's; None if there is none."""
    cause = error.__cause__
    return cause if isinstance(error, ValueError) and type(cause).__name__ == "ValidationError" else None


def _raised_by_tool(error: BaseException) -> BaseException:
    """The SDK takes a ValidationError of the function's own for one of its arguments, and hides it."""
    cause: BaseException | None = _validation(error)
    return cause or error


def _problem(problem: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    given = "" if "argument" in problem["type"] else f" (got {reprlib.repr(problem['input'])})"
    return f"{place}: {problem['msg']}{given}" if place else str(problem["msg"])


def _own_content(error: BaseException) -> results.Content | None:
    """The SDK's ToolError says itself what the model is told."""
    content = getattr(error, "content", None) if type(error).__name__ == "ToolError" else None
    if isinstance(content, str):
        return results.cut(content)
    return list(content) if isinstance(content, list | tuple) else None


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """From the first frame on that is neither ours nor a library's between us and the function."""
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _NOT_THE_USERS:
            return trace
        trace = trace.tb_next
    return None
