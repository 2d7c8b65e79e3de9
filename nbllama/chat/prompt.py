"""A rendered prompt that knows where each of its characters comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a span. `kind` is template, system, tools, format, user, assistant, tool_result or prefill
    (`format` is what a structured output is to be).

    `message` is the index into the request's `messages`, `block` the index into that message's content; both None
    where they do not apply.
    """

    kind: str
    message: int | None = None
    block: int | None = None


TEMPLATE = Origin("template")


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range [start, end) of `Prompt.text` with one origin."""

    start: int
    end: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the prompt to tokenise in one piece.

    `control` is true for the text of exactly one control token that the template wrote: only there may the text
    become a control token. Everywhere else text that spells one stays text.
    """

    text: str
    control: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """The exact text that the model reads.

    `spans` cover `text` without gaps. Joined, the `segments` are `text`. `tail` is the end of `text` that belongs to
    the answer already (a `<think>` that the template opened, a prefill): the parser starts from it.
    """

    text: str
    spans: tuple[Span, ...]
    segments: tuple[Segment, ...]
    tail: str
