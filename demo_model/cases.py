"""The cases of the evaluation: hand-written ones, and generated ones of what training never meets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from demo_model.chats import Chats, extraction
from demo_model.demo.dialogues import DemoComposer
from demo_model.demo.simple_draws import SimpleDraws
from demo_model.dialogues import Composer
from demo_model.draws import EVALUATION, Draws, load
from demo_model.judging import (
    Judge,
    calls_nothing,
    chose,
    exactly,
    has_facts,
    is_object,
    thinking,
    thinks_nothing,
    valid,
)
from demo_model.requests import Request, request
from demo_model.tools import Offer
from demo_model.wording import dressed, joined

GENERATED = 60
SETS = [
    "everyday",
    "which_of_four",
    "none_fits",
    "two_calls",
    "results",
    "structured",
    "thinking_on",
    "thinking_off",
    "generated_one_call",
    "generated_two_calls",
    "generated_of_four",
    "generated_none_fits",
    "forced_valid",
    "generated_forced",
    "generated_results",
    "generated_structured",
]


@dataclass(frozen=True)
class Case:
    """A request and what makes its answer right."""

    set: str
    body: dict[str, Any]
    right: Judge
    wanted: Any = field(default=None, compare=False)


def every_case(seed: int, limit: int | None, dialogues: str = "smollm2") -> Iterator[Case]:
    """`dialogues`: whose generated tools, a name in COMPOSERS; each model is held to what it was trained for."""
    n = min(limit or GENERATED, GENERATED)
    compose = COMPOSERS[dialogues]
    for make in (_everyday, _which_of_four, _none_fits, _two_calls, _results, _structured, _thinking):
        yield from islice(make(), limit)
    for made in (_generated_calls(compose(seed), n), _generated_others(compose(seed + 1), n)):
        yield from made


def body(user: str, **other: Any) -> dict[str, Any]:
    return {
        "model": "evaluated",
        "max_tokens": 300,
        "temperature": 0,
        "messages": [{"role": "user", "content": user}],
        **other,
    }


def _read(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = load(name, EVALUATION)
    return entries


def _everyday() -> Iterator[Case]:
    for entry in _read("everyday.yaml"):
        accepted = [[call] for call in entry["accepted"]]
        yield Case("everyday", body(entry["user"], tools=entry["tools"]), exactly(*accepted))


def _which_of_four() -> Iterator[Case]:
    for entry in _read("which_of_four.yaml"):
        name = entry["name"]
        yield Case("which_of_four", body(entry["user"], tools=entry["tools"]), chose(name))


def _none_fits() -> Iterator[Case]:
    for entry in _read("none_fits.yaml"):
        yield Case("none_fits", body(entry["user"], tools=entry["tools"]), calls_nothing)


def _two_calls() -> Iterator[Case]:
    for entry in _read("two_calls.yaml"):
        yield Case("two_calls", body(entry["user"], tools=entry["tools"]), exactly(*entry["accepted"]))


def _results() -> Iterator[Case]:
    for entry in _read("results.yaml"):
        asked = after_result(entry["user"], entry["call"], entry["result"], bool(entry.get("is_error")), entry["tools"])
        yield Case("results", asked, has_facts(entry["facts"]))


def after_result(
    user: str, call: dict[str, Any], result: str, is_error: bool, tools: list[dict[str, Any]]
) -> dict[str, Any]:
    told = {"type": "tool_result", "tool_use_id": "toolu_1", "content": result, "is_error": is_error}
    messages = [
        {"role": "user", "content": user},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", **call}]},
        {"role": "user", "content": [told]},
    ]
    return body(user, tools=tools) | {"messages": messages}


def _structured() -> Iterator[Case]:
    for entry in _read("structured.yaml"):
        yield Case("structured", structured(entry["user"], entry["schema"]), is_object(*entry["accepted"]))


def structured(user: str, schema: dict[str, Any]) -> dict[str, Any]:
    return body(user, output_config={"format": {"type": "json_schema", "schema": schema}})


def thinks(user: str, **other: Any) -> dict[str, Any]:
    return body(user, **other) | {"max_tokens": 1500, "thinking": {"type": "enabled", "budget_tokens": 1024}}


def _thinking() -> Iterator[Case]:
    for entry in _read("thinking.yaml"):
        tools = {"tools": entry["tools"]} if entry.get("tools") else {}
        yield Case("thinking_on", thinks(entry["user"], **tools), has_facts(entry["fits"], thinking))
        yield Case(
            "thinking_off",
            body(entry["user"], **tools),
            thinks_nothing,
        )


COMPOSERS: dict[str, Callable[[int], Composer]] = {
    "smollm2": lambda seed: Composer(Draws(random.Random(seed), held_out=True), Chats("smollm2")),
    "demo": lambda seed: DemoComposer(SimpleDraws(random.Random(seed), held_out=True)),
}


def wire(offers: list[Offer]) -> list[dict[str, Any]]:
    return [{"name": one.name, "description": one.description, "input_schema": one.schema} for one in offers]


def as_call(one: Request) -> dict[str, Any]:
    return {"name": one.offer.name, "input": one.arguments}


def _asked(composer: Composer, n: int | None = None) -> tuple[list[Offer], Request]:
    """Offers with a tool that training never met, and a request for it."""
    while True:
        offers = composer.offers(n)
        able = [one for one in offers if one.family.held_out and one.usable()]
        made = request(composer.d.one(able), composer.d) if able else None
        if made and (n is None or len(offers) == n):
            return offers, made


def _generated_calls(composer: Composer, n: int) -> Iterator[Case]:
    for _ in range(n):
        offers, one = _asked(composer)
        yield Case(
            "generated_one_call",
            body(dressed(one, composer.d, first=True), tools=wire(offers)),
            exactly([as_call(one)]),
            as_call(one),
        )
    for _ in range(n):
        offers, one = _asked(composer)
        _, other = _asked(composer)
        if composer.d.often(0.5):
            other = request(one.offer, composer.d) or other
        both = [*offers, other.offer] if other.offer.name not in {each.name for each in offers} else offers
        pair = [as_call(one), as_call(other)]
        yield Case("generated_two_calls", body(joined(one, other, composer.d), tools=wire(both)), exactly(pair), pair)
    for _ in range(n):
        offers, one = _asked(composer, 4)
        yield Case("generated_of_four", body(one.text, tools=wire(offers)), chose(one.offer.name), one.offer.name)
    for number in range(n):
        offers, one = _asked(composer)
        offers = offers if number % 2 else [one.offer]
        choice = {"type": "tool", "name": one.offer.name} if number % 2 else {"type": "any"}
        forced = body(one.text, tools=wire(offers), tool_choice=choice)
        yield Case("forced_valid", forced, valid(wire(offers), one.offer.name if number % 2 else None), as_call(one))
        yield Case("generated_forced", forced, exactly([as_call(one)]), as_call(one))


def _generated_others(composer: Composer, n: int) -> Iterator[Case]:
    for _ in range(n):
        offers = composer.offers()
        one = composer.unfit(offers)
        if one:
            yield Case("generated_none_fits", body(one.text, tools=wire(offers)), calls_nothing)
    for _ in range(n):
        ask, value, schema = extraction(composer.d)
        yield Case("generated_structured", structured(ask, schema), is_object(value), value)
    for _ in range(n):
        offers, one = _asked(composer)
        result, answer = composer.result(one)
        facts = [[said] for said in _new_values(result, answer)]
        asked = after_result(one.text, as_call(one), result, False, wire(offers))
        yield Case("generated_results", asked, has_facts(facts), answer)


def _new_values(result: str, answer: str) -> list[str]:
    """What the answer took from the result: numbers and codes, word by word."""
    words = {word.strip(".,;:!?()\"'") for word in answer.split()}
    return sorted(word for word in words if any(c.isdigit() for c in word) and word in result)
