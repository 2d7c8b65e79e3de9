"""What a tool of another server gave, as text: its shapes are many and grow, so it is walked over, not listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Sealed for the server that made it, or its names for itself: nothing that a model can read.
_OPAQUE = frozenset(("type", "encrypted_content", "encrypted_index", "encrypted_stdout", "file_id", "cache_control"))


def readable(content: Any) -> str:
    """The texts in `content`, one a line, with the name of each field that is not plain text or content."""
    return "\n".join(_lines(content))


def _lines(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in _OPAQUE:
                yield from _lines(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _lines(part, name)
    elif value is not None and value != "":
        plain = name in ("", "text", "content", "data")
        yield str(value) if plain else f"{name}: {value}"
