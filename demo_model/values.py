"""Values of parameters, and texts whose slots are filled with them: `<name>`, or `<name:kind>` where it says how."""

from __future__ import annotations

import json
import re
from typing import Any

from demo_model.draws import Draws
from demo_model.kinds import Said, kind, reworded

SLOT = re.compile(r"<(\w+)(?::(int|decimal|one)\(([^)]*)\)|:(\w+))?>")
NEW_VALUES = 0.4  # of the values of a list that are drawn


def slots_of(text: str) -> list[str]:
    """The slots of a text, in their order."""
    return [match[1] for match in SLOT.finditer(text)]


def type_of_kind(kind: str) -> str:
    """The JSON type of what a kind passes."""
    if kind == "year" or kind.startswith("int("):
        return "integer"
    return "number" if kind == "amount" or kind.startswith("decimal(") else "string"


def distinct(spec: dict[str, Any], d: Draws, others: list[str]) -> Said:
    """A value that no other slot of the same text has."""
    for _ in range(20):
        said, passed = value(spec, d)
        if said not in others:
            break
    return said, passed


def value(spec: dict[str, Any], d: Draws) -> Said:
    """A value of a parameter: how the user says it, what is passed."""
    if spec.get("type") == "array":
        return _several(spec, d)
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
    inline = spec["kind"].startswith(("int(", "decimal(", "one("))
    return _inline(spec["kind"], d) if inline else kind(d, spec["kind"])


def _several(spec: dict[str, Any], d: Draws) -> Said:
    """A list of different values, said with an "and"."""
    item = {key: inner for key, inner in spec.items() if key != "type"}
    n = d.one([1, 2, 2, 3, 4] if spec.get("kind", "").startswith("int(") else [1, 2, 2, 3])
    items = dict(value(item, d) for _ in range(n))
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last, list(items.values())


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
