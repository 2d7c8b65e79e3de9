"""Questions with their written answers, follow-ups, and objects to extract from short texts."""

from __future__ import annotations

from typing import Any

from demo_model.draws import Draws, load
from demo_model.schemas import camel_case, spoken
from demo_model.values import SLOT, distinct, fill

ORDINARY, CODE, WHO, FOLLOW_UP = 0.6, 0.17, 0.09, 0.14


class Chats:
    """Draws from `chat.yaml`, `code.yaml`, `follow_ups.yaml` and what the model says of itself."""

    def __init__(self, identity: str) -> None:
        self._identity = load(f"identity_{identity}.yaml")

    def one(self, d: Draws) -> tuple[str, str]:
        """A question and its answer."""
        entries = d.random.choices([load("chat.yaml"), load("code.yaml"), self._identity], [ORDINARY, CODE, WHO])[0]
        entry = d.one(entries)
        return str(d.one(entry["ask"])).strip(), str(d.one(entry["answers"])).strip()

    def dialogue(self, d: Draws) -> list[tuple[str, str]]:
        """One to three turns."""
        if d.often(FOLLOW_UP):
            turns = [str(turn).strip() for turn in d.one(load("follow_ups.yaml"))["turns"]]
            return list(zip(turns[::2], turns[1::2], strict=True))
        return [self.one(d) for _ in range(d.one([1, 1, 1, 1, 2]))]


def extraction(d: Draws) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A request to read an object from a text, the object, and its JSON schema."""
    entry = d.one(load("structured.yaml"))
    text = d.one(entry["texts"])
    say, set = (text["say"], text.get("set") or {}) if isinstance(text, dict) else (text, {})
    said: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, spec in entry["schema"].items():
        if name in set:
            found[name] = set[name]
        else:
            said[name], found[name] = distinct(spec, d, list(said.values()))
    filled = fill(str(say), said, d)
    ask = SLOT.sub(lambda match: filled if match[1] == "text" else match[0], str(d.one(entry["ask"])))
    schema = schema_of(found, entry, d)
    if d.often(0.25):
        found, schema = _camel_cased(found, schema)
    return ask, found, schema


def _camel_cased(found: dict[str, Any], schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    properties = {camel_case(name): shown for name, shown in schema["properties"].items()}
    required = {"required": [camel_case(name) for name in schema["required"]]} if "required" in schema else {}
    return {camel_case(name): value for name, value in found.items()}, schema | {"properties": properties} | required


def schema_of(found: dict[str, Any], entry: dict[str, Any], d: Draws) -> dict[str, Any]:
    """The JSON schema of an object, by hand or as Pydantic writes it, with titles."""
    titled = d.often(0.4)
    properties = {name: _property(name, entry["schema"][name], value, titled=titled) for name, value in found.items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if titled:
        title = spoken(entry["name"]).title().replace(" ", "")
        schema = {"properties": properties, "required": list(found), "title": title, "type": "object"}
    elif d.often(0.8):
        schema["required"] = list(found)
    return schema | {"additionalProperties": False} if d.often(0.7) else schema


def _property(name: str, spec: dict[str, Any], found: Any, *, titled: bool) -> dict[str, Any]:
    title = {"title": spoken(name).title()} if titled else {}
    if "enum" in spec:
        return title | {"type": "string", "enum": list(spec["enum"])}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    shown = title | {"type": "number" if spec.get("type") == "number" else kinds[type(found)]}
    return shown | {"items": {"type": "string"}} if shown["type"] == "array" else shown
