"""What generated text turns into: the parser's output, the block writer's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThinkStart:
    """The model began to think."""


@dataclass(frozen=True, slots=True)
class ThinkDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ThinkStop:
    """The thinking is closed; what follows is text or a call."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolStart:
    """A call of a known tool. Never taken back once announced. `id` is the model's own, where its format has one."""

    index: int
    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolArgsDelta:
    """A piece of the arguments' JSON text, as generated."""

    index: int
    json: str


@dataclass(frozen=True, slots=True)
class ToolStop:
    """`complete` says whether the concatenated arguments are a valid JSON object."""

    index: int
    complete: bool


Piece = ThinkStart | ThinkDelta | ThinkStop | TextDelta | ToolStart | ToolArgsDelta | ToolStop
