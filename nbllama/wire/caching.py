"""The breakpoints of a request: where they are, and the rules for them. Source: anthropic-api §2.5.

They change what the usage says, never the prompt: what can be reused here is reused without being asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nbllama.wire.content import Cacheable, CacheControl, InputMessage, TextBlock, ToolResultBlock
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.tools import AnyTool

MAX_BREAKPOINTS = 4
Part = Literal["tools", "system", "messages"]


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """The end of a block. `message` and `block` count within their part; `message` is None outside `messages`."""

    part: Part
    message: int | None
    block: int
    ttl: Literal["5m", "1h"]

    @property
    def place(self) -> str:
        """The path of its block."""
        if self.message is None:
            return f"{self.part}.{self.block}"
        return f"messages.{self.message}.content.{self.block}"


def breakpoints(
    tools: Sequence[AnyTool],
    system: Sequence[TextBlock],
    messages: Sequence[InputMessage],
    automatic: CacheControl | None,
) -> list[Breakpoint]:
    """In the order of the prompt; the `automatic` one is at the last block. Raises InvalidRequest."""
    found = list(_explicit(tools, system, messages))
    if len(found) > MAX_BREAKPOINTS:
        raise _too_many(len(found))
    if automatic is not None:
        _add_automatic(found, messages, automatic)
    for before, after in itertools.pairwise(found):
        if before.ttl == "5m" and after.ttl == "1h":
            raise InvalidRequest(
                f"{after.place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
    return found


def _explicit(
    tools: Sequence[AnyTool], system: Sequence[TextBlock], messages: Sequence[InputMessage]
) -> Iterator[Breakpoint]:
    yield from _of("tools", None, tools)
    yield from _of("system", None, system)
    for index, message in enumerate(messages):
        for position, block in enumerate(message.content):
            inner = block.content if isinstance(block, ToolResultBlock) else []
            # A breakpoint inside a result is at the result's end: nothing branches off within one.
            marked = [part for part in (block, *inner) if isinstance(part, Cacheable) and part.cache_control]
            for part in marked:
                yield _at("messages", index, position, part)


def _of(part: Part, message: int | None, blocks: Sequence[Cacheable]) -> Iterator[Breakpoint]:
    for position, block in enumerate(blocks):
        if block.cache_control is not None:
            yield _at(part, message, position, block)


def _at(part: Part, message: int | None, position: int, block: Cacheable) -> Breakpoint:
    ttl = block.cache_control.ttl if block.cache_control else None
    return Breakpoint(part, message, position, ttl or "5m")


def _add_automatic(found: list[Breakpoint], messages: Sequence[InputMessage], automatic: CacheControl) -> None:
    last = len(messages) - 1
    end = Breakpoint("messages", last, max(0, len(messages[last].content) - 1), automatic.ttl or "5m")
    if found and found[-1].place == end.place:
        if found[-1].ttl != end.ttl:
            raise InvalidRequest(f"cache_control: {end.place} has a cache_control with another ttl")
        return
    if len(found) == MAX_BREAKPOINTS:
        raise _too_many(MAX_BREAKPOINTS + 1)
    found.append(end)


def _too_many(n: int) -> InvalidRequest:
    return InvalidRequest(f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {n}.")
