"""What two requests say of tools and of thinking, for who compares them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nbllama.views.comparison import Comparison


def thoughts(comparison: Comparison) -> Iterator[str]:
    """Thinking that the earlier prompt or its answer held."""
    content = comparison.before.mapping("message").get("content")
    yield from _of_blocks(content)
    yield from sent_thoughts(comparison.requests()[0])


def sent_thoughts(request: Mapping[str, Any]) -> Iterator[str]:
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, Mapping):
            yield from _of_blocks(message.get("content"))


def _of_blocks(content: Any) -> Iterator[str]:
    for block in content if isinstance(content, list) else []:
        text = block.get("thinking") if isinstance(block, Mapping) else None
        if isinstance(text, str) and text.strip():
            yield text.strip()


def changed_tools(first: list[Any], second: list[Any]) -> str:
    earlier, later = ({tool_name(one): canonical(one) for one in tools} for tools in (first, second))
    told = [
        ("added", [name for name in later if name not in earlier]),
        ("removed", [name for name in earlier if name not in later]),
        ("changed", [name for name in later if name in earlier and later[name] != earlier[name]]),
    ]
    lists = (f"{what}: {', '.join(names[:6])}" for what, names in told if names)
    return f"The tools changed: {'; '.join(lists)}."


def tool_name(tool: Any) -> str:
    return str(tool.get("name")) if isinstance(tool, Mapping) else "?"


def role_of(message: Any) -> str:
    return str(message.get("role")) if isinstance(message, Mapping) else "?"


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def keys_of(value: Any) -> Iterator[str]:
    """All keys in it, in order."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)
