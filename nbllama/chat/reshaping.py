"""Histories that a template refuses or silently shortens, changed the least that it takes, in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nbllama.chat.capabilities import Capabilities

Message = dict[str, Any]


def reshaped(messages: Sequence[Message], can: Capabilities) -> list[Message]:
    """`messages` in OpenAI's shape; those that the template takes stay as they are."""
    result = list(messages)
    if not can.two_calls:
        result = list(_one_call_each(result))
    if not can.text_beside_calls:
        result = [part for message in result for part in _text_apart(message, can)]
    if not can.assistant_first:
        result = _user_first(result)
    return result


def _one_call_each(messages: list[Message]) -> Iterator[Message]:
    """Several calls at once become one after the other, each with its result."""
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        calls = message.get("tool_calls") or []
        if len(calls) < 2:
            yield message
            continue
        end = place
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        yield from _in_turn(message, messages[place:end])
        place = end


def _in_turn(message: Message, results: list[Message]) -> Iterator[Message]:
    left = list(results)
    # What was thought and said stands before the first call.
    first = {key: value for key, value in message.items() if key != "tool_calls"}
    bare = {"role": "assistant", "content": ""}
    for number, call in enumerate(message["tool_calls"]):
        yield (bare if number else first) | {"tool_calls": [call]}
        mine = [result for result in left if result["tool_call_id"] == call["id"]]
        yield from mine
        left = [result for result in left if result not in mine]
    yield from left


def _text_apart(message: Message, can: Capabilities) -> list[Message]:
    """For templates that drop the calls of a message that has text."""
    if not message.get("tool_calls") or not message["content"]:
        return [message]
    text = {key: value for key, value in message.items() if key != "tool_calls"}
    calls = {"role": "assistant", "content": can.content_beside_calls, "tool_calls": message["tool_calls"]}
    return [text, calls]


def _user_first(messages: list[Message]) -> list[Message]:
    """For templates whose conversations begin with the user: an empty message of hers."""
    start = next((place for place, message in enumerate(messages) if message["role"] != "system"), 0)
    if not messages or messages[start]["role"] == "user":
        return messages
    return [*messages[:start], {"role": "user", "content": ""}, *messages[start:]]
