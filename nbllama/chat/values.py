"""What a tool's schema says about an argument, and raw text → the JSON that it stands for."""

from __future__ import annotations

import ast
import json
from typing import Any

ANY = "any"
_MAX_REFS = 20
_MAX_PYTHON = 100_000
_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (type(None), "null"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def quoted(text: str) -> str:
    """A JSON string without its quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def types_of(schema: Any, root: Any = None, depth: int = 0) -> frozenset[str]:
    """The JSON types that a schema allows; `any` where it does not say."""
    if not isinstance(schema, dict) or depth > _MAX_REFS:
        return frozenset((ANY,))
    if isinstance(schema.get("$ref"), str):
        return types_of(_resolved(schema["$ref"], root), root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset((kind,))
    if isinstance(kind, list):
        return frozenset(map(str, kind))
    if isinstance(schema.get("enum"), list):
        return frozenset(map(_type_of, schema["enum"]))
    if "const" in schema:
        return frozenset((_type_of(schema["const"]),))
    parts = [part for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list) for part in schema[key]]
    return frozenset().union(*(types_of(part, root, depth + 1) for part in parts)) or frozenset((ANY,))


def alternatives(schema: Any, root: Any) -> list[dict[str, Any]]:
    """The schema and those that it is composed of, references followed."""
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        schema = _resolved(schema["$ref"], root)
    if not isinstance(schema, dict):
        return []
    parts = [part for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list) for part in schema[key]]
    return [schema, *(part for part in parts if isinstance(part, dict))]


def _resolved(reference: str, root: Any) -> Any:
    value = root
    for key in reference.removeprefix("#").strip("/").split("/"):
        key = key.replace("~1", "/").replace("~0", "~")
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _type_of(value: Any) -> str:
    return next((name for kind, name in _NAMES if isinstance(value, kind)), ANY)


def json_of(raw: str, types: frozenset[str]) -> str:
    """JSON if it is any and fits, else Python's literals, else a string."""
    if types == {"string"}:
        return f'"{quoted(raw)}"'
    for text in (_json_text(raw.strip()), _python_text(raw.strip())):
        if text is not None:
            return text if _fits(json.loads(text), types) else f'"{quoted(raw)}"'
    return f'"{quoted(raw)}"'


def _fits(value: Any, types: frozenset[str]) -> bool:
    kind = _type_of(value)
    return ANY in types or kind in types or (kind == "integer" and "number" in types) or "string" not in types


def _json_text(raw: str) -> str | None:
    try:
        json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return raw


def _python_text(raw: str) -> str | None:
    if len(raw) > _MAX_PYTHON:
        return None
    try:
        return json.dumps(ast.literal_eval(raw), ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _no_constant(name: str) -> None:
    raise ValueError(name)
