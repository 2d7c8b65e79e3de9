"""What makes an answer right. A judge looks at a message of the API and says yes or no."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]

Message = dict[str, Any]
Judge = Callable[[Message], bool]


def calls(message: Message) -> list[dict[str, Any]]:
    return [block for block in message["content"] if block["type"] == "tool_use"]


def text(message: Message) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def thinking(message: Message) -> str:
    return "".join(block["thinking"] for block in message["content"] if block["type"] == "thinking")


def same(a: Any, b: Any) -> bool:
    """Numbers by value, strings but for case, outer space and a final full stop."""
    if isinstance(a, str) and isinstance(b, str):
        return a.strip().rstrip(".").casefold() == b.strip().rstrip(".").casefold()
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def exactly(*accepted: list[dict[str, Any]]) -> Judge:
    """The calls are those of one of the lists, in any order."""

    def judge(message: Message) -> bool:
        made = [(one["name"], one["input"]) for one in calls(message)]
        return any(_matches(made, wanted) for wanted in accepted)

    return judge


def _matches(made: list[tuple[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    left = list(made)
    for one in wanted:
        found = next((call for call in left if call[0] == one["name"] and same(call[1], one["input"])), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def has_facts(facts: list[list[str]], of: Callable[[Message], str] = text) -> Judge:
    return lambda message: tells(facts, of(message))


def tells(facts: list[list[str]], said: str) -> bool:
    """Of each line of `facts`, one occurs as whole words."""
    plain = said.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return all(any(occurs(word, plain) for word in words) for words in facts)


def occurs(word: str, said: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", said, re.I) is not None


def valid(tools: list[dict[str, Any]], name: str | None) -> Judge:
    """Calls, of the tool that was named, whose arguments fit their schemas."""
    schemas = {tool["name"]: tool["input_schema"] for tool in tools}

    def judge(message: Message) -> bool:
        made = calls(message)
        try:
            for one in made:
                jsonschema.validate(one["input"], schemas[one["name"]])
            return bool(made) and all(name in (None, one["name"]) for one in made)
        except (jsonschema.ValidationError, KeyError):
            return False

    return judge


def chose(name: str) -> Judge:
    """One call, of this tool; its arguments do not count."""
    return lambda message: [one["name"] for one in calls(message)] == [name]


def is_object(*accepted: Any) -> Judge:
    """The text is one of these objects, as JSON."""

    def judge(message: Message) -> bool:
        try:
            return any(same(json.loads(text(message)), one) for one in accepted)
        except ValueError:
            return False

    return judge


def calls_nothing(message: Message) -> bool:
    return not calls(message)


def thinks_nothing(message: Message) -> bool:
    return not thinking(message) and "<think>" not in text(message)
