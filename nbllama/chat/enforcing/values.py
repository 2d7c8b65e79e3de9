"""Values of arguments in the formats that do not write them as JSON."""

from __future__ import annotations

import json
from typing import Any

from nbllama.chat.enforcing.rules import Rules, either
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.format import Calls

_SCALARS = frozenset(("string", "integer", "number", "boolean", "null"))
_MAX_DEPTH = 20
_BEYOND_TEXT = ("format", "contentEncoding", "contentMediaType", "not", "allOf", "if", "then", "else")


def resolved(schema: Any, root: dict[str, Any], where: str) -> Any:
    """The schema that a reference stands for. Raises SchemaRefused where there is none, or no end of them."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        value: Any = root
        for key in filter(None, schema["$ref"].removeprefix("#").split("/")):
            value = value.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
        schema = value
    raise SchemaRefused(f"{where}.$ref: the references lead nowhere")


def standing_alone(schema: Any, root: dict[str, Any], where: str) -> dict[str, Any]:
    """An argument's schema with what its references need of the tool's. Raises SchemaRefused."""
    if isinstance(schema, bool):
        return {}
    words = json.dumps(schema)
    if '"$ref"' not in words:
        return dict(schema)
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
    known = json.dumps([schema, shared])
    for reference in known.split('"$ref": "#')[1:]:
        if not reference.startswith(("/$defs/", "/definitions/")):
            raise SchemaRefused(f"{where}.$ref: only #/$defs/… can be followed in this model's format")
    return {**schema, **shared}


def raw_value(rules: Rules, schema: Any, root: dict[str, Any], close: str, where: str, depth: int = 0) -> str:
    """A value that is raw text where it is a string and JSON else, and the marker behind it. Raises SchemaRefused."""
    schema = resolved(schema, root, where)
    _check_bounds(rules, where, depth)
    if not isinstance(schema, dict) or not schema:
        return rules.until(close)
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return f"{either(_written(rules, value) for value in values)} {rules.fixed(close)}"
    kinds = _kinds(schema)
    if "string" not in kinds:
        return f"{rules.json(standing_alone(schema, root, where))} {rules.fixed(close)}"
    if kinds == {"string"}:
        return _text(rules, schema, close, where)
    # Whatever is no number and no word of JSON is read as a string then.
    if kinds <= _SCALARS and set(schema) <= {"type"}:
        return rules.until(close)
    options = _options(schema, where)
    return either(raw_value(rules, option, root, close, where, depth + 1) for option in options)


def _check_bounds(rules: Rules, where: str, depth: int) -> None:
    rules.count_value(where)
    if depth > _MAX_DEPTH:
        raise SchemaRefused(f"{where}: nested too deep for this model's format")


def _kinds(schema: dict[str, Any]) -> set[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return set(map(str, kind))
    parts = [part for key in ("anyOf", "allOf") for part in schema.get(key, []) if isinstance(part, dict)]
    found = {kind for part in parts for kind in (_kinds(part) if "$ref" not in part else {"string", "object"})}
    return found or ({"object"} if "properties" in schema else {"array"} if "items" in schema else {"string", "object"})


def _options(schema: dict[str, Any], where: str) -> list[Any]:
    if isinstance(schema.get("anyOf"), list):
        # A string beside numbers may spell one, which is then read as one: as good as what is asked for.
        return list(schema["anyOf"])
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    raise SchemaRefused(f"{where}: a type is needed to be followed in this model's format")


def _written(rules: Rules, value: Any) -> str:
    return rules.fixed(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(rules: Rules, schema: dict[str, Any], close: str, where: str) -> str:
    """Raw text within the bounds that the schema sets."""
    for word in _BEYOND_TEXT:
        if word in schema:
            raise SchemaRefused(f"{where}.{word}: cannot be followed where strings are raw text")
    low, high = schema.get("minLength", 0), schema.get("maxLength", "")
    parts = [f"/(.|\\n){{{low},{high}}}/"] if low or high != "" else []
    if "pattern" in schema:
        parts.append(f"/{_anywhere(str(schema['pattern']))}/")
    return rules.limited(" & ".join(parts), close) if parts else rules.until(close)


def _anywhere(expression: str) -> str:
    """JSON Schema's patterns stand anywhere unless they say otherwise."""
    begin = "" if expression.startswith("^") else "(.|\\n)*"
    end = "" if expression.endswith("$") else "(.|\\n)*"
    return begin + "(" + expression.removeprefix("^").removesuffix("$").replace("/", "\\/") + ")" + end


def literal_value(rules: Rules, schema: Any, root: dict[str, Any], calls: Calls, where: str, depth: int = 0) -> str:
    """A value with bare keys and strings between quotes of their own. Raises SchemaRefused."""
    schema = resolved(schema, root, where)
    _check_bounds(rules, where, depth)
    quote = rules.fixed(calls.quote)
    if not isinstance(schema, dict) or not schema:
        return f"{quote} {rules.until(calls.quote)}"
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return either(_literal(rules, value, calls, where) for value in values)
    kinds = _kinds(schema)
    if len(kinds) > 1:
        options = _options(schema, where)
        return either(literal_value(rules, option, root, calls, where, depth + 1) for option in options)
    if kinds == {"string"}:
        return f"{quote} {_text(rules, schema, calls.quote, where)}"
    if kinds == {"object"}:
        if not isinstance(schema.get("properties"), dict):
            return rules.fixed("{}")
        needed = set(schema.get("required", []))
        members = []
        for key, part in schema["properties"].items():
            value = literal_value(rules, part, root, calls, f"{where}.{key}", depth + 1)
            members.append((f"{rules.fixed(f'{key}:')} {value}", key in needed))
        return f"{rules.fixed('{')} {in_a_row(rules, members, ',')} {rules.fixed('}')}"
    if kinds == {"array"}:
        item = rules.add(literal_value(rules, schema.get("items"), root, calls, f"{where}.items", depth + 1))
        return f"{rules.fixed('[')} {_repeated(rules, item, schema)} {rules.fixed(']')}"
    return rules.json(standing_alone(schema, root, where))


def _literal(rules: Rules, value: Any, calls: Calls, where: str) -> str:
    if isinstance(value, str):
        return rules.fixed(f"{calls.quote}{value}{calls.quote}")
    if isinstance(value, dict | list):
        raise SchemaRefused(f"{where}.enum: only simple values can be followed in this model's format")
    return rules.fixed(json.dumps(value))


def _repeated(rules: Rules, item: str, schema: dict[str, Any]) -> str:
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    if high == 0:
        return ""
    more = f'("," {item}){{{max(0, low - 1)},{"" if high is None else high - 1}}}'
    return f"{item} {more}" if low else f"({item} {more})?"


def in_a_row(rules: Rules, members: list[tuple[str, bool]], separator: str) -> str:
    """Members in their order, those that are not needed left out or not, with separators between."""
    first, more = "", ""
    for index in range(len(members) - 1, -1, -1):
        body, needed = members[index]
        here = f"{rules.add(body)} {more}".strip()
        begun = here if needed or not first else f"{here} | {first}"
        # Without anything behind it, one that is not needed may be missing.
        first = rules.add(begun if needed or first else f"({begun})?")
        next_one = f"{rules.fixed(separator)} {rules.add(body)}"
        more = rules.add(f"{next_one if needed else f'({next_one})?'} {more}".strip())
    return first
