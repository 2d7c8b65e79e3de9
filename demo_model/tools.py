"""The hand-written tools of `data/tools_*.yaml`, and one concrete offer of such a tool with a random schema."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from demo_model.draws import DATA, EVALUATION, Draws, load, load_all, words
from demo_model.values import slots_of, type_of_kind

Wording = tuple[str, dict[str, Any]]
"""How a request is said, and the slots that it sets without naming a value."""

HELD_OUT_TOOLS = 12  # one tool in twelve is for evaluation only


@dataclass(frozen=True)
class Family:
    """A tool as it was written: many names, wordings and results."""

    key: str
    domain: str
    family: str
    names: list[str]
    descriptions: list[str]
    parameters: dict[str, dict[str, Any]]
    wants: str
    requests: list[Wording]
    incomplete: list[dict[str, str]]
    results: list[dict[str, Any]]

    @property
    def held_out(self) -> bool:
        return zlib.crc32(f"9:{self.key}".encode()) % HELD_OUT_TOOLS == 0


@dataclass(frozen=True)
class Offer:
    """A tool as one request offers it: which name, which parameters under which names (`slots`: slot -> name)."""

    family: Family
    name: str
    description: str
    slots: dict[str, str]
    schema: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.schema}

    def usable(self) -> list[Wording]:
        """The requests that this schema can answer."""
        return [(say, set) for say, set in self.family.requests if {*slots_of(say), *set} <= self.slots.keys()]

    def with_optional(self) -> list[Wording]:
        """Of these, the requests that say more than they must."""
        needed = {slot for slot, spec in self.family.parameters.items() if spec.get("required")}
        return [(say, set) for say, set in self.usable() if {*slots_of(say), *set} - needed]


@cache
def families() -> list[Family]:
    """All tools. Names that the hand-written evaluation uses are left out; a tool without any other is dropped."""
    found = []
    for file in sorted(DATA.glob("tools_*.yaml")):
        for entry in load(file.name):
            names = [name for name in entry["names"] if name not in evaluated_names()]
            if names:
                found.append(_family(entry, names, file.stem.removeprefix("tools_")))
    return found


@cache
def evaluated_names() -> frozenset[str]:
    names: set[str] = set()
    for entry in load_all("*.yaml", EVALUATION):
        names |= {tool["name"] for tool in entry.get("tools") or ()}
    return frozenset(names)


def _family(entry: dict[str, Any], names: list[str], domain: str) -> Family:
    requests = [
        (request["say"], request.get("set") or {}) if isinstance(request, dict) else (request, {})
        for request in entry["requests"]
    ]
    return Family(
        entry["tool"],
        domain,
        entry.get("family") or entry["tool"],
        names,
        entry["descriptions"],
        entry.get("parameters") or {},
        entry["wants"],
        [(str(say), set) for say, set in requests],
        entry.get("incomplete") or [],
        entry["results"],
    )


def offer(family: Family, d: Draws) -> Offer:
    """A schema: some optional parameters and descriptions are left out, names are drawn."""
    slots: dict[str, str] = {}
    properties, required = {}, []
    for slot, spec in family.parameters.items():
        if not spec.get("required") and d.often(0.3):
            continue
        name = d.one([one for one in spec["names"] if one not in slots.values()] or [slot])
        slots[slot] = name
        properties[name] = _property(spec, d)
        if spec.get("required"):
            required.append(name)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required or d.often(0.5):
        schema["required"] = required
    if d.often(0.1):
        schema["additionalProperties"] = False
    return Offer(family, _styled(d.one(family.names), d), d.one(family.descriptions), slots, schema)


def _styled(name: str, d: Draws) -> str:
    """In the letters that the API allows, and now and then as other programs spell names."""
    parts = [part for part in re.split(r"[._-]|(?<=[a-z])(?=[A-Z])", name) if part]
    if "." in name or "-" in name or d.often(0.15):
        lower = [part.lower() for part in parts]
        camel = lower[0] + "".join(part.title() for part in lower[1:])
        name = d.one(
            ["_".join(lower), "_".join(lower), "-".join(lower), camel, "".join(part.title() for part in lower)]
        )
        if d.often(0.15):
            name = f"mcp__{d.one(words('noun'))}__{'_'.join(lower)}"
    return name if name not in evaluated_names() else "_".join(["do", *(part.lower() for part in parts)])


def _property(spec: dict[str, Any], d: Draws) -> dict[str, Any]:
    type = spec.get("type") or type_of_kind(spec.get("kind", ""))
    shown: dict[str, Any] = {"type": type}
    if spec.get("descriptions") and d.often(0.7):
        shown["description"] = d.one(spec["descriptions"])
    if "enum" in spec:
        shown["enum"] = list(spec["enum"])
    if type == "array":
        shown["items"] = {"type": type_of_kind(spec.get("kind", ""))}
    return shown
