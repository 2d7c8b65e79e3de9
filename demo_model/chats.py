"""Questions with their written answers, follow-ups, and objects to extract from short texts."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml  # type: ignore[import-untyped]

from demo_model.draws import DATA, Draws
from demo_model.tools import SLOT, distinct, fill

ORDINARY, CODE, WHO, FOLLOW_UP = 0.6, 0.17, 0.09, 0.14


class Chats:
    """Draws from `chat.yaml`, `code.yaml`, `follow_ups.yaml` and what the model says of itself."""

    def __init__(self, identity: str) -> None:
        self._identity = _load(f"identity_{identity}.yaml")

    def one(self, d: Draws) -> tuple[str, str]:
        """A question and its answer."""
        entries = d.random.choices([_load("chat.yaml"), _load("code.yaml"), self._identity], [ORDINARY, CODE, WHO])[0]
        entry = d.one(entries)
        return str(d.one(entry["ask"])).strip(), str(d.one(entry["answers"])).strip()

    def dialogue(self, d: Draws) -> list[tuple[str, str]]:
        """One to three turns."""
        if d.often(FOLLOW_UP):
            turns = [str(turn).strip() for turn in d.one(_load("follow_ups.yaml"))["turns"]]
            return list(zip(turns[::2], turns[1::2], strict=True))
        return [self.one(d) for _ in range(d.one([1, 1, 1, 1, 2]))]


def extraction(d: Draws) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A request to read an object from a text, the object, and its JSON schema."""
    entry = d.one(_load("structured.yaml"))
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
    properties = {name: _property(entry["schema"][name], value) for name, value in found.items()}
    schema = {"type": "object", "properties": properties, "required": list(found), "additionalProperties": False}
    return ask, found, schema


def _property(spec: dict[str, Any], found: Any) -> dict[str, Any]:
    if "enum" in spec:
        return {"type": "string", "enum": list(spec["enum"])}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    shown: dict[str, Any] = {"type": "number" if spec.get("type") == "number" else kinds[type(found)]}
    return shown | {"items": {"type": "string"}} if shown["type"] == "array" else shown


@cache
def _load(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
    return entries
