"""Whether a value can be a JSON Schema at all (draft 2020-12). Source: anthropic-api §2.7.

Only what a model or a grammar is led astray by: types that are none, and schemas that are something else.
"""

from __future__ import annotations

from typing import Any

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_SCHEMAS = frozenset(
    ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedProperties")
)
_SCHEMAS_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_SCHEMA_LISTS = frozenset(("anyOf", "allOf", "oneOf", "prefixItems"))


def is_schema(value: Any) -> bool:
    """Whether every part of `value` that must be a schema is one. Unknown words are allowed, as in the draft."""
    if isinstance(value, bool):
        return True
    return isinstance(value, dict) and all(_is_fit(word, said) for word, said in value.items())


def _is_fit(word: str, said: Any) -> bool:
    if word in _SCHEMAS:
        return is_schema(said)
    if word in _SCHEMAS_BY_NAME:
        return isinstance(said, dict) and all(map(is_schema, said.values()))
    if word in _SCHEMA_LISTS:
        return isinstance(said, list) and bool(said) and all(map(is_schema, said))
    if word == "type":
        names = said if isinstance(said, list) and said else [said]
        return all(isinstance(name, str) and name in _TYPES for name in names)
    if word == "required":
        return isinstance(said, list) and all(isinstance(name, str) for name in said)
    if word in ("title", "description", "pattern", "format", "$ref"):
        return isinstance(said, str)
    return isinstance(said, list) if word == "enum" else True
