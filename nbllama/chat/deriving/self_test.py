"""Whether a format reads back what the template itself renders: silent misreading becomes a line at load."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nbllama.chat.capabilities import ANSWER, THOUGHT, TOOL, TOOL_2
from nbllama.chat.deriving.samples import (
    FIRST,
    HARD,
    ID_1,
    SCHEMA,
    SECOND,
    VALUE_A,
    VALUE_B,
    VALUE_C,
    SampleCall,
    Samples,
)
from nbllama.chat.format import Format
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ToolArgsDelta, ToolStart, ToolStop
from nbllama.chat.tail import answer_begun

EMPTY: SampleCall = (TOOL, {}, ID_1)
_VALUES = (VALUE_A, VALUE_B, VALUE_C)


@dataclass(frozen=True, slots=True)
class Check:
    """One rendering read back. `passed` is None where the template does not render such an answer."""

    name: str
    passed: bool | None


def self_test(samples: Samples, format: Format, ends: Collection[str] = ()) -> list[Check]:
    """Text, thinking, one and several calls, with text and thinking before them, without arguments, hard to quote.

    `ends` are what ends a turn besides what the format swallows.
    """
    ends = tuple(end for end in (*format.swallow, *ends) if end)
    return [
        _check(samples, format, ends, "text", content=ANSWER),
        _check(samples, format, ends, "thinking and text", content=ANSWER, thought=True),
        _check(samples, format, ends, "one call", FIRST),
        _check(samples, format, ends, "two calls", FIRST, SECOND),
        _check(samples, format, ends, "text and call", FIRST, content=ANSWER),
        _check(samples, format, ends, "thinking and call", FIRST, thought=True),
        _check(samples, format, ends, "call without arguments", EMPTY),
        _check(samples, format, ends, "call with a difficult text", HARD),
    ]


def _check(
    samples: Samples,
    format: Format,
    ends: tuple[str, ...],
    name: str,
    *calls: SampleCall,
    content: str = "",
    thought: bool = False,
) -> Check:
    results = []
    # An answer that begins as thinking has no form without.
    thought = thought or (format.think is not None and not format.think.open)
    for thinking in (True, False):
        if calls:
            text = samples.calls(*calls, content=content, thought=thought, thinking=thinking)
        else:
            text = samples.text(content, thought=thought, thinking=thinking)
        if text is None:
            continue
        begun = samples.prompt(thinking=thinking)
        tail, answer = _divided(format, begun, _without_end(ends, text))
        results.append(_reads_back(format, tail, answer, calls, content, thought))
    return Check(name, all(results) if results else None)


def _without_end(ends: tuple[str, ...], text: str) -> str:
    """Without what ends the turn, which models write as a token of its own, and what the template puts behind it."""
    last = max(text.rfind(sentinel) for sentinel in (TOOL, TOOL_2, ANSWER, THOUGHT, *_VALUES))
    cuts = [cut for end in ends if (cut := text.find(end, last)) >= 0]
    return text[: min(cuts)] if cuts else text


def _divided(format: Format, prompt: str, text: str) -> tuple[str, str]:
    """(what the prompt has of the answer, what the model would write). Where they do not fit, the history's form."""
    if text.startswith(prompt) and prompt.strip():
        return answer_begun(format, prompt), text[len(prompt) :]
    return "", answer_begun(format, text, first=True)


def _reads_back(
    format: Format, tail: str, text: str, calls: tuple[SampleCall, ...], content: str, thought: bool
) -> bool:
    parser = StreamParser(format, tail, {TOOL: SCHEMA, TOOL_2: SCHEMA})
    pieces = parser.feed(text) + parser.finish()
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)).strip()
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, ThinkDelta)).strip()
    read = _calls(pieces)
    wanted = [(name, arguments) for name, arguments, _ in calls]
    return said == content and thoughts == (THOUGHT if thought else "") and read == wanted


def _calls(pieces: list[Piece]) -> list[tuple[str, Any]]:
    """(name, arguments) of each call; None for arguments that are not complete."""
    found: list[tuple[str, Any]] = []
    text = ""
    for piece in pieces:
        match piece:
            case ToolStart(_, name):
                found.append((name, None))
                text = ""
            case ToolArgsDelta(_, part):
                text += part
            case ToolStop(_, complete) if complete:
                found[-1] = (found[-1][0], json.loads(text))
    return found
