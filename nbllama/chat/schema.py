"""A JSON schema as a client sends it → one that the grammar can follow, with the API's own rules.

Source: anthropic-api §2.9. Properties come required first, because a model that is cut off has then written what was
asked for; objects are closed unless they say otherwise, because an open one lets a small model ramble.
"""

from __future__ import annotations

from typing import Any

from nbllama.chat.errors import SchemaRefused
from nbllama.chat.schema_numbers import with_limits

# Deeper than any schema that a person or a generator writes, and far from Python's own limit.
MAX_DEPTH = 100
# Each optional property may be the next one: beyond some 600 the grammar's own limit ends the answer in its middle.
MAX_PROPERTIES = 500
# Says nothing about what may be written.
_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def prepared(schema: Any, where: str) -> dict[str, Any]:
    """The schema to follow. `where` is the field it came in. Raises SchemaRefused, naming the place."""
    if not isinstance(schema, dict):
        raise SchemaRefused(f"{where}: Input should be a valid dictionary")
    return _object(schema, where, 0)


def _object(schema: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise SchemaRefused(f"{where}: the schema is nested more than {MAX_DEPTH} levels deep")
    _check_reference(schema, where)
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _ANNOTATIONS:
            continue
        # Exactly one of several: what fits one of them is as good as what a grammar can promise.
        result["anyOf" if key == "oneOf" else key] = _value(key, value, f"{where}.{key}", depth + 1)
    if "properties" in result:
        result["properties"] = _required_first(result["properties"], result.get("required"), where)
        result.setdefault("additionalProperties", False)
    return with_limits(result)


def _value(key: str, value: Any, where: str, depth: int) -> Any:
    if key in _SCHEMAS_BY_NAME:
        if not isinstance(value, dict):
            raise SchemaRefused(f"{where}: Input should be a valid dictionary")
        if len(value) > MAX_PROPERTIES and key != "$defs":
            raise SchemaRefused(f"{where}: {len(value)} properties, at most {MAX_PROPERTIES} can be followed")
        return {name: _schema(entry, f"{where}.{name}", depth) for name, entry in value.items()}
    if key in _SCHEMA_LISTS:
        if not isinstance(value, list) or not value:
            raise SchemaRefused(f"{where}: Input should be a list of schemas")
        return [_schema(entry, f"{where}.{index}", depth) for index, entry in enumerate(value)]
    return _schema(value, where, depth) if key in _SCHEMAS else value


def _schema(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        raise SchemaRefused(f"{where}: Input should be a valid schema")
    return _object(value, where, depth)


def _check_reference(schema: dict[str, Any], where: str) -> None:
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise SchemaRefused(f"{where}.$ref: external references are not supported, only #/$defs/…")


def _required_first(properties: dict[str, Any], required: Any, where: str) -> dict[str, Any]:
    names = [] if required is None else required
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SchemaRefused(f"{where}.required: Input should be a list of names")
    first = {name: properties[name] for name in properties if name in names}
    return first | properties
