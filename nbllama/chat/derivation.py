"""A template's format, read off its own renderings of calls and thinking."""

from __future__ import annotations

import json
import re
from typing import Any

from nbllama.chat.capabilities import (
    ANSWER,
    ARGUMENT,
    THOUGHT,
    TOOL,
    TOOL_2,
    USER,
    VALUE,
    Capabilities,
    answer_message,
    call_messages,
    sentinel_tools,
    user_message,
)
from nbllama.chat.errors import ChatError
from nbllama.chat.format import CallTags, Format, ThinkTags
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import ToolArgsDelta, ToolStart, ToolStop
from nbllama.chat.renderer import Renderer

_TAG = r"(<[^<>\s][^<>\n]*>|\[[^\[\]\s][^\[\]\n]*\])"
_TAG_BEFORE = re.compile(_TAG + r"\s*$")
_TAG_AFTER = re.compile(r"\s*" + _TAG)
# For templates that take thinking out of the history, and so never show it rendered.
_KNOWN_THINKING = (
    ThinkTags("<think>", "</think>"),
    ThinkTags("[THINK]", "[/THINK]"),
    ThinkTags("<|START_THINKING|>", "<|END_THINKING|>"),
)
OTHER_CALLS = "the model's tool calls are in a form that is not understood: they arrive as text"


def derive(renderer: Renderer, can: Capabilities) -> tuple[Format, list[str]]:
    """(format, warnings). A template that shows no tools gets the default tags for calls."""
    think = _derive_thinking(renderer, can)
    if not can.tools or (not can.calls and _speaks_of_default_tags(renderer)):
        return Format(think, CallTags()), []
    call = _derive_calls(renderer, can) if can.calls else None
    if call is not None and _reads_back(renderer, can, Format(think, call)):
        return Format(think, call), []
    return Format(think, None), [OTHER_CALLS]


def _speaks_of_default_tags(renderer: Renderer) -> bool:
    try:
        return CallTags().open in renderer.render([user_message()], sentinel_tools())
    except ChatError:
        return False


def _derive_thinking(renderer: Renderer, can: Capabilities) -> ThinkTags | None:
    if can.reasoning:
        text = renderer.render([user_message(), answer_message(THOUGHT)], thinking=True, generation=False)
        tags = _tags_around(text, text.rfind(THOUGHT), text.rfind(THOUGHT) + len(THOUGHT))
        if tags is not None and _are_pair(*tags):
            return ThinkTags(*tags)
    return next((tags for tags in _KNOWN_THINKING if tags.close in renderer.source), None)


def _tags_around(text: str, start: int, end: int) -> tuple[str, str] | None:
    before, after = _TAG_BEFORE.search(text[max(0, start - 200) : start]), _TAG_AFTER.match(text, end)
    return (before.group(1), after.group(1)) if before and after else None


def _are_pair(opener: str, closer: str) -> bool:
    """`<x>` and `</x>`, `<|START_X|>` and `<|END_X|>`: not the marks of a message that happen to stand there."""

    def kernel(tag: str) -> str:
        return re.sub(r"start|begin|end|[^a-z0-9:]", "", tag.lower())

    return opener != closer and kernel(opener) == kernel(closer) != ""


def _derive_calls(renderer: Renderer, can: Capabilities) -> CallTags | None:
    text = _answer(renderer, can, TOOL)
    found = _find_call(text, TOOL)
    if found is None:
        return None
    start, end, name_key, arguments_key = found
    tags = _tags_around(text, start, end)
    if tags is None or not _are_pair(*tags):
        return None
    return CallTags(*tags, name_key, arguments_key)


def _answer(renderer: Renderer, can: Capabilities, *names: str) -> str:
    """What the template makes of an assistant message that calls `names`."""
    text = renderer.render(call_messages(can, *names), sentinel_tools(), generation=False)
    return text[text.rfind(USER) + len(USER) :]


def _find_call(text: str, name: str) -> tuple[int, int, str, str] | None:
    """(start, end, name key, arguments key) of the JSON object that is a call of `name`."""
    for brace in re.finditer(r"\{", text):
        try:
            value, end = json.JSONDecoder().raw_decode(text, brace.start())
        except ValueError:
            continue
        keys = _call_keys(value, name)
        if keys is not None:
            return (brace.start(), end, *keys)
    return None


def _call_keys(value: Any, name: str) -> tuple[str, str] | None:
    names = [key for key, part in value.items() if part == name]
    arguments = [key for key, part in value.items() if part == {ARGUMENT: VALUE}]
    return (names[0], arguments[0]) if len(names) == len(arguments) == 1 else None


def _reads_back(renderer: Renderer, can: Capabilities, format: Format) -> bool:
    """The self-test: the parser finds in the template's own rendering what was rendered."""
    names = (TOOL, TOOL_2) if can.two_calls else (TOOL,)
    parser = StreamParser(format, "", names)
    pieces = parser.feed(_answer(renderer, can, *names)) + parser.finish()
    started = tuple(piece.name for piece in pieces if isinstance(piece, ToolStart))
    arguments = "".join(piece.json for piece in pieces if isinstance(piece, ToolArgsDelta))
    complete = all(piece.complete for piece in pieces if isinstance(piece, ToolStop))
    return started == names and complete and arguments.count(VALUE) == len(names) and ANSWER not in arguments
