"""A grammar for an answer that is one JSON value, with thinking before it where the model thinks."""

from __future__ import annotations

from typing import Any, Literal

from nbllama.chat.format import ThinkTags
from nbllama.chat.lark import Marker, json_value, until_rule
from nbllama.chat.schema import prepared

FIELD = "output_config.format.schema"
Thinking = Literal["open", "possible", "none"]


def json_answer(schema: Any, think: ThinkTags | None, thinking: Thinking, marker: Marker) -> str:
    """The Lark grammar. `thinking`: the prompt has opened it, the model may open it, or there is none.

    Raises SchemaRefused, naming what cannot be followed."""
    value = f"value: {json_value(prepared(schema, FIELD))}"
    if think is None or thinking == "none":
        return f"start: value\n{value}"
    rules = f"{until_rule('thoughts', think.close, marker)}\nspace: /[ \\t\\n]{{0,4}}/\n{value}"
    before = "thoughts space" if thinking == "open" else f"({marker(think.open)} thoughts space)?"
    return f"start: {before} value\n{rules}"
