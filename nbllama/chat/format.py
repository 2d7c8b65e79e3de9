"""How a model writes its answers, as data: the parser reads it, a template's sentinels fill it in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """What stands around the model's thinking. Space next to a tag is not part of it."""

    open: str = "<think>"
    close: str = "</think>"


@dataclass(frozen=True, slots=True)
class CallTags:
    """What stands around a call, which is one JSON object with a name and an object of arguments."""

    open: str = "<tool_call>"
    close: str = "</tool_call>"
    name_key: str = "name"
    arguments_key: str = "arguments"


@dataclass(frozen=True, slots=True)
class Format:
    """The JSON-in-tags family. Without `call` (or `think`) such tags are text."""

    think: ThinkTags | None = ThinkTags()
    call: CallTags | None = CallTags()
