"""An optional argument, said beside a request: "…, units: km". Any tool gets such wordings, by its parameters' names.

The same request with and without it is a pair that differs in nothing else: what is said is passed, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from demo_model.draws import Draws
from demo_model.requests import Request, ordered
from demo_model.schemas import spoken
from demo_model.tools import Offer
from demo_model.values import distinct

WITH_VALUE = (
    "{t} ({p}: {v})",
    "{t}, {p}: {v}",
    "{t}, {p} {v}",
    "{t}, with {p} {v}",
    "{s} Use {v} as the {p}.",
    "{s} The {p} is {v}.",
    "{s} {P}: {v}.",
    "{s} Set the {p} to {v}.",
    '{s} The {p} should be "{v}".',
    "With {p} {v}: {u}",
    "{P} {v}. {s}",
)
SWITCHED = {
    True: (
        "{s} Set {p} to true.",
        "{t} ({p}: yes)",
        "{s} Turn on {p}.",
        "{t}, {p}: true",
        "{t}, {p} on",
        "With {p}: {u}",
    ),
    False: ("{s} Set {p} to false.", "{t} ({p}: no)", "{s} Turn off {p}.", "{t}, {p}: false"),
}


def with_more(one: Request, d: Draws) -> Request | None:
    """The same request with one more optional argument. None where there is none that has a name to say."""
    slots = [slot for slot, name in one.offer.slots.items() if name not in one.arguments and _sayable(one.offer, slot)]
    if not slots:
        return None
    slot = d.one(slots)
    name = one.offer.slots[slot]
    said, passed, patterns = _said(one, slot, d)
    words = spoken(name)
    put = {"p": words, "P": words.capitalize(), "v": said, "t": one.unended, "s": one.ended, "u": one.text}
    return replace(
        one,
        text=str(d.one(patterns)).format(**put),
        arguments=ordered({**one.arguments, name: passed}, one.offer.schema),
        said={**one.said, slot: said},
    )


def _sayable(offer: Offer, slot: str) -> bool:
    name = spoken(offer.slots[slot])
    return len(name) > 2 and not name[-1].isdigit() and not offer.family.parameters[slot].get("required")


def _said(one: Request, slot: str, d: Draws) -> tuple[str, Any, tuple[str, ...]]:
    spec = one.offer.family.parameters[slot]
    if spec.get("type") == "boolean":
        on = d.often(0.65)
        return str(on).lower(), on, SWITCHED[on]
    said, passed = distinct(spec, d, list(one.said.values()))
    return said, passed, WITH_VALUE
