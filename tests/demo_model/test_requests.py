"""Requests for tools, and the calls that they ask for."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

pytest.importorskip("faker", reason="no faker: pip install -e .[dev]")
pytest.importorskip("wonderwords", reason="no wonderwords: pip install -e .[dev]")

from demo_model.draws import Draws
from demo_model.mix import USUAL
from demo_model.offering import Offering
from demo_model.requests import Request, request
from demo_model.schemas import styled
from demo_model.tools import Offer, families, offer
from demo_model.values import SLOT
from demo_model.wording import dressed, joined


def asked(seed: int) -> tuple[list[Offer], Request]:
    drawing = Offering(Draws(random.Random(seed)), USUAL)
    offers = drawing.offers()
    return offers, drawing.asked(offers)


def test_arguments_are_in_the_grammar_s_order() -> None:
    for seed in range(60):
        _, one = asked(seed)
        required = one.offer.schema.get("required") or []
        names = list(one.arguments)
        assert names == sorted(
            names, key=lambda name: (name not in required, list(one.offer.schema["properties"]).index(name))
        )


def test_a_value_that_is_said_is_what_is_passed() -> None:
    """Unless the tool's data say that the two differ."""
    checked = 0
    for seed in range(200):
        _, one = asked(seed)
        for slot, name in one.offer.slots.items():
            spec = one.offer.family.parameters[slot]
            if name in one.arguments and spec.get("kind") not in (None, "currency", "amount", "year"):
                passed = one.arguments[name]
                if isinstance(passed, str) and not spec.get("say"):
                    assert passed in one.text
                    checked += 1
    assert checked > 100


@pytest.mark.parametrize("key", [family.key for family in families()])
def test_each_tool_can_be_asked_for(key: str) -> None:
    family = next(one for one in families() if one.key == key)
    d = Draws(random.Random(key))
    made = [one for one in (request(offer(family, d), d) for _ in range(8)) if one]
    assert made
    for one in made:
        assert not SLOT.search(one.text + one.wants)
        jsonschema.validate(one.arguments, one.offer.schema)


def test_held_out_tools_are_asked_for_in_an_evaluation_only() -> None:
    kept = [family for family in families() if family.held_out]
    assert 8 <= len(kept) <= 30
    for seed in range(40):
        assert not asked(seed)[1].offer.family.held_out


def test_pairs_differ_in_one_thing() -> None:
    """An argument more, with the rest as it was; other values; or another tool."""
    seen = Counter(difference(seed) for seed in range(150))
    assert min(seen[way] for way in ("more", "values", "tool")) > 10
    assert seen["other arguments"] < 0.1 * seen.total()
    assert seen["both"] < 3


def difference(seed: int) -> str:
    drawing = Offering(Draws(random.Random(seed)), USUAL)
    while not (offers := drawing.askable(drawing.offers())):
        pass
    first = drawing.asked(offers)
    second = drawing.unlike(first, offers)
    if second.offer is not first.offer:
        return "tool"
    if second.arguments == first.arguments:
        return "nothing"
    if second.arguments | first.arguments == second.arguments:
        return "more"
    if second.arguments.keys() == first.arguments.keys():
        return "values"
    shared = first.arguments.keys() & second.arguments.keys()
    return "other arguments" if all(first.arguments[name] == second.arguments[name] for name in shared) else "both"


def test_a_request_like_another_keeps_what_both_say() -> None:
    checked = 0
    for seed in range(100):
        drawing = Offering(Draws(random.Random(seed)), USUAL)
        first = drawing.asked(drawing.offers())
        second = request(first.offer, drawing.d, like=first)
        assert second
        set = {first.offer.slots[slot] for slot in first.wording[1].keys() | second.wording[1].keys()}
        for name in (first.arguments.keys() & second.arguments.keys()) - set:
            assert first.arguments[name] == second.arguments[name]
            checked += 1
    assert checked > 50


def test_the_end_of_a_value_stays() -> None:
    """What the user says ends with its own mark; how the request is typed takes none of it away."""
    d = Draws(random.Random(1))
    family = next(one for one in families() if one.key == "write_file")
    made = [one for _ in range(400) if (one := request(offer(family, d), d))]
    ends = [one for one in made if one.text.endswith(("?", ".", "!")) and one.text.endswith(tuple(one.said.values()))]
    assert len(ends) > 5
    other = next(one for one in made if one not in ends)
    for one in ends:
        passed = {value for value in one.arguments.values() if isinstance(value, str)} - set(other.said.values())
        typed = [*(dressed(one, d, first=first) for first in (True, False) for _ in range(20)), joined(one, other, d)]
        assert all(value in text for value in passed for text in typed)


def test_a_schema_in_another_style_means_the_same() -> None:
    for seed in range(200):
        d = Draws(random.Random(seed))
        plain = offer(d.one(families()), d)
        one = styled(plain, d)
        jsonschema.Draft7Validator.check_schema(one.schema)
        assert set(one.schema["properties"]) == set(one.slots.values())
        assert {slot: meaning(one, slot) for slot in one.slots} == {slot: meaning(plain, slot) for slot in plain.slots}
        for slot, name in plain.slots.items():
            assert plain.schema["properties"][name].get("description", "").rstrip(".") in told(one, slot)


def meaning(one: Offer, slot: str) -> tuple[Any, ...]:
    """Whether the parameter is required, and what it may be."""
    name = one.slots[slot]
    shown = one.schema["properties"][name]
    inner = shown["anyOf"][0] if "anyOf" in shown else shown
    return name in one.schema.get("required", ()), inner["type"], sorted(inner.get("enum", ())), inner.get("items")


def told(one: Offer, slot: str) -> str:
    """What describes the parameter: its own description, or its line of the tool's."""
    name = one.slots[slot]
    lines = [line for line in one.description.splitlines() if line.startswith(f"    {name}: ")]
    return "".join(lines) or str(one.schema["properties"][name].get("description", ""))


NAMES = {
    "city",
    "country",
    "person",
    "company",
    "product",
    "song",
    "artist",
    "book",
    "movie",
    "dish",
    "address",
    "query",
}
NAMES |= {"topic", "message", "todo", "note", "event", "subject", "sentence", "phrase", "landmark", "ingredient"}


def test_one_sees_where_a_value_ends() -> None:
    """Of two strings side by side, at least one can be told by its looks."""
    for family in families():
        for say, _ in family.requests:
            for first, second in re.findall(r"<(\w+)> (?=<(\w+)>)", say):
                specs = [family.parameters[slot] for slot in (first, second)]
                assert any("values" not in spec and spec.get("kind") not in NAMES for spec in specs), say
