"""One call in each syntax: the name to the letter, the arguments by the tool's schema.

A further syntax is one function and one line here, as it is one reader in `syntaxes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nbllama.chat.enforcing.rules import ANY_SPACE, SPACE, Rules, in_order, pattern
from nbllama.chat.enforcing.values import in_a_row, literal_value, raw_value, standing_alone
from nbllama.chat.format import Calls, Syntax

_NAME, _ARGUMENTS, _ID = "ZQ_NAME", "ZQ_ARGUMENTS", "ZQ_ID"
_ANY_KEY = "/[a-zA-Z0-9_.-]{1,64}/"
_JSON_PARTS = re.compile(r"[{}:,]|[^\s{}:,]+")
_SLOTS = re.compile(f'"{_ARGUMENTS}"|{_ID}')

Body = Callable[[Rules, Calls, str, dict[str, Any], str], tuple[str, str]]
"""(rules, format, name, prepared schema, where) → the text that a call begins with behind what opens it, mostly up to
its name's end, and an expression from there to before what closes it. Raises SchemaRefused."""


def json_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """`{"name": …, "arguments": {…}}` with the keys in the template's order."""
    text = _written(calls).replace(_NAME, name)
    slot = _SLOTS.search(text)
    begun = slot.start() if slot else len(text)
    return text[:begun], _filled(rules, text[begun:], schema)


def bare_json_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any]) -> str:
    """The same where nothing stands before it: up to the name in whatever way the model spaces it, then as always.

    A type that says that this is a function may come first: Llama 3 was trained on both."""
    text = _written(calls)
    named = text.index(_NAME) + len(_NAME) + 1
    parts = [pattern(part) for part in _JSON_PARTS.findall(text[:named])]
    if calls.name_path and len(calls.name_path) == 1 and not calls.name_is_key:
        typed = ANY_SPACE.join(('"type"', ":", '"function"', ",", ""))
        parts.insert(1, f"({typed})?")
    begun = ANY_SPACE.join(["", *parts]).replace(_NAME, pattern(name)).replace(_ID, "[a-zA-Z0-9_-]{1,64}")
    lead = rules.leading_token(calls.lead)
    spelled = f"({ANY_SPACE}{pattern(calls.lead)})?" if calls.lead and not lead else ""
    opened = rules.add(f"/{spelled}{begun}/", lazy=True)
    before = f"({SPACE} {rules.fixed(calls.lead)})?" if lead else ""
    return in_order(before, opened, _filled(rules, text[named:], schema))


def _written(calls: Calls) -> str:
    return json.dumps(_shape(calls), separators=(",", ":") if calls.compact else (", ", ": "))


def _filled(rules: Rules, text: str, schema: dict[str, Any]) -> str:
    """A call's text with the id and the arguments where they belong."""
    expressions: list[str] = []
    start = 0
    for slot in _SLOTS.finditer(text):
        expressions.append(rules.fixed(text[start : slot.start()]))
        expressions.append(rules.fixed("{id}") if slot.group() == _ID else rules.json(schema))
        start = slot.end()
    return in_order(*expressions, rules.fixed(text[start:]))


def _shape(calls: Calls) -> dict[str, Any]:
    if calls.name_is_key:
        return {_NAME: _ARGUMENTS}
    shape: dict[str, Any] = {}
    parts = [(calls.name_path, _NAME), (calls.arguments_path, _ARGUMENTS)]
    if calls.id_path:
        parts.insert(2 if calls.id_last else 0, (calls.id_path, _ID))
    for path, value in parts:
        here = shape
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here[path[-1]] = value
    return shape


def tag_json_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """The name in a tag, then one JSON object."""
    return name + calls.middle, rules.json(schema)


def tagged_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """A tag for each argument."""
    needed = set(schema.get("required", []))
    arguments = []
    for key, part in schema.get("properties", {}).items():
        value_open = calls.value_open
        if "{any}" in value_open:
            value_open = value_open.replace("{any}", _said_type(part, value_open))
        value = raw_value(rules, part, schema, calls.value_close, f"{where}.properties.{key}")
        one = rules.add(f"{rules.fixed(calls.key_open + key + value_open)} {value}")
        arguments.append(one if key in needed else f"{one}?")
    if not arguments and schema.get("additionalProperties", True) is not False:
        value_open = calls.value_open.replace("{any}", "true" if '="{any}' in calls.value_open else "")
        any_one = f"{rules.fixed(calls.key_open)} {_ANY_KEY} {rules.fixed(value_open)} {rules.until(calls.value_close)}"
        arguments.append(f"({rules.add(any_one)})*")
    return name + calls.name_close, " ".join(arguments)


def _said_type(schema: Any, value_open: str) -> str:
    """What a tag says of its value: whether it is a string, or which type it has."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    values = schema.get("enum", [schema.get("const")]) if isinstance(schema, dict) else []
    is_text = kind == "string" or (kind is None and all(isinstance(value, str) for value in values))
    if value_open.partition("{any}")[0].endswith('="'):
        return "true" if is_text else "false"
    return f' type="{"string" if is_text else kind if isinstance(kind, str) else "object"}"'


def pythonic_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """`name(key="value")`; JSON's strings and numbers are Python's."""
    needed = set(schema.get("required", []))
    members = []
    for key, part in schema.get("properties", {}).items():
        value = rules.json(standing_alone(part, schema, f"{where}.properties.{key}"))
        members.append((f"{rules.fixed(f'{key}=')} {value}", key in needed))
    return f"{name}(", in_order(in_a_row(rules, members, ", "), rules.fixed(")"))


def literal_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """`name{key:value}` with bare keys."""
    closed = {**schema, "properties": schema.get("properties", {}), "type": "object"}
    return name, literal_value(rules, closed, schema, calls, where)


def nested_call(rules: Rules, calls: Calls, name: str, schema: dict[str, Any], where: str) -> tuple[str, str]:
    """An element for each argument; objects and lists in it are JSON, which is read as well."""
    needed = set(schema.get("required", []))
    arguments = []
    for key, part in schema.get("properties", {}).items():
        closing = f"{calls.namespace}</{key}>"
        value = raw_value(rules, part, schema, closing, f"{where}.properties.{key}")
        one = rules.add(f"{rules.fixed(f'{calls.namespace}<{key}>')} {value}")
        arguments.append(one if key in needed else f"{one}?")
    return name + calls.name_close, " ".join(arguments)


BODIES: Mapping[Syntax, Body] = {
    "json": json_call,
    "tag_json": tag_json_call,
    "tagged": tagged_call,
    "pythonic": pythonic_call,
    "literal": literal_call,
    "nested": nested_call,
}
