"""The hand-written tools of `data/tools_*.yaml`, and one concrete offer of such a tool with a random schema."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml  # type: ignore[import-untyped]

from demo_model.draws import DATA, EVALUATION, Draws, words
from demo_model.kinds import Said, kind, reworded

SLOT = re.compile(r"<(\w+)(?::(int|decimal|one)\(([^)]*)\)|:(\w+))?>")
NEW_VALUES = 0.4  # of the values of a list that are drawn
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
    requests: list[tuple[str, dict[str, Any]]]
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

    def usable(self) -> list[tuple[str, dict[str, Any]]]:
        """The requests that this schema can answer."""
        return [(say, set) for say, set in self.family.requests if {*_named(say), *set} <= self.slots.keys()]

    def with_optional(self) -> list[tuple[str, dict[str, Any]]]:
        """Of these, the requests that say more than they must."""
        needed = {slot for slot, spec in self.family.parameters.items() if spec.get("required")}
        return [(say, set) for say, set in self.usable() if {*_named(say), *set} - needed]


@dataclass(frozen=True)
class Request:
    """What a user says, and the call that it asks for."""

    offer: Offer
    text: str
    arguments: dict[str, Any]
    said: dict[str, str] = field(default_factory=dict)
    wording: tuple[str, dict[str, Any]] = ("", {})

    @property
    def unended(self) -> str:
        """The text without its full stop or question mark, unless a value ends with it."""
        if any(said and self.text.endswith(said) for said in self.said.values()):
            return self.text
        return self.text.rstrip(".?!")

    @property
    def wants(self) -> str:
        return fill(self.offer.family.wants, self.said)


def _named(text: str) -> list[str]:
    return [match[1] for match in SLOT.finditer(text)]


@cache
def families() -> list[Family]:
    """All tools. Names that the hand-written evaluation uses are left out; a tool without any other is dropped."""
    found = []
    for file in sorted(DATA.glob("tools_*.yaml")):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
            names = [name for name in entry["names"] if name not in evaluated_names()]
            if names:
                found.append(_family(entry, names, file.stem.removeprefix("tools_")))
    return found


@cache
def evaluated_names() -> frozenset[str]:
    names: set[str] = set()
    for file in sorted(EVALUATION.glob("*.yaml")):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
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
    enum = spec.get("enum")
    type = spec.get("type") or type_of_kind(spec.get("kind", ""))
    shown: dict[str, Any] = {"type": type}
    if spec.get("descriptions") and d.often(0.7):
        shown["description"] = d.one(spec["descriptions"])
    if enum:
        shown["enum"] = [value for value in enum]
    if type == "array":
        shown["items"] = {"type": _item_type(spec)}
    return shown


def _item_type(spec: dict[str, Any]) -> str:
    if "items" in spec:
        return str(spec["items"]["type"] if isinstance(spec["items"], dict) else spec["items"])
    return "number" if "range" in spec else type_of_kind(spec.get("kind", ""))


def type_of_kind(kind: str) -> str:
    """The JSON type of what a kind passes."""
    if kind == "year" or kind.startswith("int("):
        return "integer"
    return "number" if kind == "amount" or kind.startswith("decimal(") else "string"


def request(
    offer: Offer, d: Draws, wordings: list[tuple[str, dict[str, Any]]] | None = None, like: Request | None = None
) -> Request | None:
    """A request for the offered tool, in one of the wordings. None where its schema fits none of them.

    What `like` says and this wording says too stays the same.
    """
    usable = wordings or offer.usable()
    if not usable:
        return None
    say, set = wording = d.one(usable)
    said: dict[str, str] = {}
    passed: dict[str, Any] = dict(set)
    for slot in dict.fromkeys(_named(say)):
        if like and offer.slots[slot] in like.arguments and slot not in like.wording[1]:
            said[slot], passed[slot] = like.said[slot], like.arguments[offer.slots[slot]]
        else:
            said[slot], passed[slot] = distinct(offer.family.parameters[slot], d, list(said.values()))
    text = fill(_with_prepositions(say, said, offer), said)
    arguments = {offer.slots[slot]: passed[slot] for slot in offer.family.parameters if slot in passed}
    for slot, value in set.items():
        said.setdefault(slot, str(value).lower() if isinstance(value, bool) else str(value))
    return Request(offer, text, ordered(arguments, offer.schema), said, wording)


def distinct(spec: dict[str, Any], d: Draws, others: list[str]) -> Said:
    """A value that no other slot of the same text has."""
    for _ in range(20):
        said, passed = value(spec, d)
        if said not in others:
            break
    return said, passed


def ordered(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """As the grammar writes them: what is required first."""
    required = schema.get("required") or []
    first = [name for name in schema["properties"] if name in required]
    rest = [name for name in schema["properties"] if name not in required]
    return {name: arguments[name] for name in [*first, *rest] if name in arguments}


def value(spec: dict[str, Any], d: Draws) -> Said:
    """A value of a parameter: how the user says it, what is passed."""
    if spec.get("type") == "array":
        items = [
            value({key: inner for key, inner in spec.items() if key != "type"}, d)
            for _ in range(d.one([1, 2, 2, 3, 4] if spec.get("kind", "").startswith("int(") else [1, 2, 2, 3]))
        ]
        items = list({said: (said, passed) for said, passed in items}.values())
        words = [said for said, _ in items]
        joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
        return joined, [passed for _, passed in items]
    for key in ("enum", "map"):
        if key in spec:
            options = spec[key]
            passed = d.one(options)
            ways = options[passed] if isinstance(options, dict) else [passed]
            return str(d.one(ways or [passed])), passed
    if spec.get("say") and d.often(0.15):
        passed = d.one(spec["say"])
        return str(d.one(spec["say"][passed])), passed
    if "values" in spec:
        text = d.fresh(
            lambda: reworded(str(d.one(spec["values"])), d) if d.often(NEW_VALUES) else str(d.one(spec["values"]))
        )
        return text, text
    if "range" in spec:
        return _number(spec, d)
    return (
        kind(d, spec["kind"]) if not spec["kind"].startswith(("int(", "decimal(", "one(")) else _inline(spec["kind"], d)
    )


def _number(spec: dict[str, Any], d: Draws) -> Said:
    low, high = spec["range"]
    if spec.get("type") == "integer" or (isinstance(low, int) and isinstance(high, int) and "digits" not in spec):
        number: float = d.random.randint(int(low), int(high))
    else:
        number = round(d.random.uniform(low, high), d.one([spec.get("digits", 1), 0, 1]))
        number = int(number) if number == int(number) else number
    return str(number), number


def _inline(text: str, d: Draws) -> Said:
    name, _, inside = text.partition("(")
    made = _generated(name, inside.rstrip(")"), d)
    return made, int(made) if name == "int" else float(made) if name == "decimal" else made


def _generated(name: str, inside: str, d: Draws) -> str:
    if name == "one":
        return str(d.one(inside.split("|")))
    low, high = (float(part) for part in inside.split(","))
    return str(d.random.randint(int(low), int(high))) if name == "int" else f"{d.random.uniform(low, high):.1f}"


def fill(text: str, known: dict[str, str], d: Draws | None = None) -> str:
    """Puts values for slots; with `d`, makes those that say how, and keeps them in `known`."""

    def put(match: re.Match[str]) -> str:
        slot, name, inside, of_kind = match.groups()
        if slot not in known and d is not None:
            if name:
                known[slot] = _generated(name, inside, d)
            elif of_kind:
                known[slot] = kind(d, of_kind)[0]
        return known.get(slot, match[0])

    return SLOT.sub(put, text)


def fill_json(text: str, known: dict[str, str], d: Draws) -> str:
    """`fill`, with the values escaped where the text is JSON."""
    if not text.lstrip().startswith(("{", "[")):
        return fill(text, known, d)
    fill(text, known, d)
    return fill(text, {slot: json.dumps(value, ensure_ascii=False)[1:-1] for slot, value in known.items()})


def said_for(one: Offer, text: str, d: Draws) -> dict[str, str]:
    """Values for the slots of a text, as the user says them."""
    said: dict[str, str] = {}
    for slot in dict.fromkeys(_named(text)):
        said[slot], _ = distinct(one.family.parameters[slot], d, list(said.values()))
    return said


def _with_prepositions(say: str, said: dict[str, str], offer: Offer) -> str:
    """\"on\" before a weekday or a date, where the wording has none: \"in Oslo <day>\"."""
    for slot, text in said.items():
        if offer.family.parameters[slot].get("kind") != "day":
            continue
        bare = text.startswith(("to", "next ", "the "))
        if bare:
            say = say.replace(f" on <{slot}>", f" <{slot}>")
        elif (
            re.search(
                rf"\b(on|for|by|from|to|until|till|before|after|since|of|is|at|this|[,:'\"(]) ?['\"]?<{slot}>", say
            )
            is None
        ):
            say = re.sub(rf"(?<=[a-z>]) <{slot}>", f" on <{slot}>", say) if say[:1].isupper() or "?" in say else say
    return say
