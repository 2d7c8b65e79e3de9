"""The same tool as other programs list it.

Real lists come from docstrings, pydantic, OpenAPI and MCP servers: they spell names in their own way, order and
describe parameters or not, give defaults, bounds and examples. What a tool takes has to be read, and an example or a
default is not what the user said.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from demo_model.draws import Draws
from demo_model.tools import Offer
from demo_model.values import value

FORMATS = {"iso_date": "date", "email": "email", "url": "uri", "uuid": "uuid"}
BARE = ("The {p}", "{P}", "{P} to use", "{P} of the request", "the {p} that is wanted")
EXAMPLES = ("{}, e.g. {}", "{}, such as {}", "{} (example: {})")
AFFIXES = ("{}_value", "target_{}", "{}_param", "the_{}", "my_{}", "{}_input", "{}_", "requested_{}")
OPAQUE = ("arg", "p", "param", "field")
DRAFT = "http://json-schema.org/draft-07/schema#"


def styled(one: Offer, d: Draws) -> Offer:
    """Other names, order and keys for the parameters; what they mean stays."""
    names = _names(one, d)
    properties = {
        names[slot]: _described(one, slot, one.schema["properties"][name], d) for slot, name in one.slots.items()
    }
    if d.often(0.05):
        names, properties = _opaque(one, properties, d.one(OPAQUE))
    if d.often(0.4):
        properties = _shuffled(properties, d)
    by_old = {old: names[slot] for slot, old in one.slots.items()}
    schema: dict[str, Any] = one.schema | {"properties": properties}
    if "required" in schema:
        schema["required"] = [by_old[name] for name in schema["required"]]
    made = replace(one, slots=names, schema=schema)
    return _as_program(made, d)


def _names(one: Offer, d: Draws) -> dict[str, str]:
    """Slots to names. Of one tool, all are spelled alike."""
    camel, affix = d.often(0.2), d.one(AFFIXES) if d.often(0.12) else "{}"
    chosen = one.slots
    if affix != "{}":
        chosen = {slot: affix.format(name) if d.often(0.6) else name for slot, name in chosen.items()}
    if camel:
        chosen = {slot: camel_case(name) for slot, name in chosen.items()}
    return chosen if len(set(chosen.values())) == len(chosen) else one.slots


def camel_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)


def spoken(name: str) -> str:
    """A parameter's name as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.-]+", " ", name).strip().lower()


def _described(one: Offer, slot: str, shown: dict[str, Any], d: Draws) -> dict[str, Any]:
    spec = one.family.parameters[slot]
    shown = dict(shown)
    if "description" not in shown and not spec.get("descriptions") and d.often(0.5):
        name = spoken(one.slots[slot])
        shown["description"] = d.one(BARE).format(p=name, P=name.capitalize())
    if "description" in shown and spec.get("type") not in ("boolean", "array") and d.often(0.15):
        shown["description"] = _with_example(shown["description"], spec, d)
    if "enum" in shown and d.often(0.4):
        shown["enum"] = d.random.sample(shown["enum"], len(shown["enum"]))
    if spec.get("kind") in FORMATS and d.often(0.3):
        shown["format"] = FORMATS[spec["kind"]]
    if "range" in spec and shown["type"] in ("integer", "number") and d.often(0.25):
        shown["minimum"], shown["maximum"] = spec["range"]
    if not spec.get("required") and d.often(0.25):
        shown |= _default(spec, shown, d)
    return shown


def _with_example(description: str, spec: dict[str, Any], d: Draws) -> str:
    said, passed = value(spec, d)
    example = said if isinstance(passed, str) and "enum" not in spec and "map" not in spec else passed
    return str(d.one(EXAMPLES)).format(description.rstrip("."), example)


def _default(spec: dict[str, Any], shown: dict[str, Any], d: Draws) -> dict[str, Any]:
    """What is taken where nothing is said: to be left out of a call, not repeated in it."""
    if shown["type"] == "boolean":
        return {"default": False}
    if shown["type"] == "array":
        return {}
    _, passed = value(spec, d)
    if d.often(0.4) and "description" in shown:
        return {"description": f"{shown['description'].rstrip('.')} (default {passed})"}
    return {"default": passed}


def _opaque(
    one: Offer, properties: dict[str, dict[str, Any]], stem: str
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Names that say nothing: only descriptions do. Where one has none, names stay."""
    told = {
        slot: shown.get("description") or next(iter(one.family.parameters[slot].get("descriptions") or ()), "")
        for slot, shown in zip(one.slots, properties.values(), strict=True)
    }
    if not all(told.values()):
        return dict(zip(one.slots, properties, strict=True)), properties
    names = {slot: f"{stem}{number}" for number, slot in enumerate(one.slots, start=1)}
    shown = [each | {"description": told[slot]} for slot, each in zip(one.slots, properties.values(), strict=True)]
    return names, dict(zip(names.values(), shown, strict=True))


def _shuffled(properties: dict[str, Any], d: Draws) -> dict[str, Any]:
    items = list(properties.items())
    d.random.shuffle(items)
    return dict(items)


def _as_program(one: Offer, d: Draws) -> Offer:
    """As one kind of program writes it. Most write it plainly."""
    share = d.random.random()
    properties = one.schema["properties"]
    if share < 0.08:
        return replace(one, schema=_titled(one))
    if share < 0.16:
        return _docstring(one)
    if share < 0.24:
        return replace(one, schema={**one.schema, "additionalProperties": False, "$schema": DRAFT})
    if share < 0.4:
        turned = {name: dict(sorted(shown.items())) for name, shown in properties.items()}
        return replace(one, schema=one.schema | {"properties": turned})
    return one


def _titled(one: Offer) -> dict[str, Any]:
    """As pydantic does: titles, and null for what is optional."""
    required = one.schema.get("required") or []
    properties = {}
    for name, shown in one.schema["properties"].items():
        title = spoken(name).title()
        if name in required or "default" in shown:
            properties[name] = shown | {"title": title}
            continue
        told = {"description": shown["description"]} if "description" in shown else {}
        inner = {key: each for key, each in shown.items() if key != "description"}
        properties[name] = {"anyOf": [inner, {"type": "null"}], "default": None, "title": title} | told
    return {"properties": properties, "required": required, "title": f"{one.name}Arguments", "type": "object"}


def _docstring(one: Offer) -> Offer:
    """As from a Python function: the parameters are described under the tool's own description."""
    lines, properties = [], {}
    for name, shown in one.schema["properties"].items():
        told = shown.get("description")
        lines.append(f"    {name}: {told or spoken(name)}")
        properties[name] = {key: each for key, each in shown.items() if key != "description"}
    if not lines:
        return one
    text = "\n".join([one.description, "", "Args:", *lines])
    return replace(one, description=text, schema=one.schema | {"properties": properties})
