"""Pieces of grammars, in llguidance's Lark dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

# One space after `:` and `,`, as templates write JSON, and no other: most of a call's structure is then forced.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# For the templates that write none.
COMPACT_STYLE = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}

Marker = Callable[[str], str]
"""A marker's text → its expression: a control token of the vocabulary, or the text."""


def json_value(schema: dict[str, Any]) -> str:
    """JSON by a prepared schema."""
    return "%json " + json.dumps({**schema, "x-guidance": JSON_STYLE})


def literal(text: str) -> str:
    """Exactly this text."""
    return json.dumps(text, ensure_ascii=False)


def until_rule(name: str, close: str, marker: Marker) -> str:
    """A rule for any text and the marker that ends it: a token of its own, or text that is looked for."""
    expression = marker(close)
    if expression != literal(close):
        return f"{name}: /(.|\\n)*/ {expression}"
    pattern = re.escape(close).replace("/", "\\/")
    return f"{name}[lazy]: /(.|\\n)*{pattern}/"
