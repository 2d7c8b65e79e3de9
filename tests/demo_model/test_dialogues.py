"""The training dialogues: the template's own text, the same from a seed, and nothing of the evaluation in them."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

pytest.importorskip("faker", reason="no faker: pip install -e .[dev]")
pytest.importorskip("wonderwords", reason="no wonderwords: pip install -e .[dev]")

import yaml  # type: ignore[import-untyped]

import nbllama
from demo_model.chats import extraction
from demo_model.dialogues import Composer, groups
from demo_model.draws import DATA, Draws, avoided, held_out
from demo_model.kinds import kind
from demo_model.schemas import styled
from demo_model.tools import SLOT, Offer, Request, evaluated_names, families, offer, request
from demo_model.wording import call, joined, schema_turn, system_turn
from nbllama.chat.template import ChatTemplate
from nbllama.wire.requests import parse_messages_request

TEMPLATE = Path(nbllama.__file__).parent / "models" / "smollm2-tools.jinja"
N_GROUPS = 150


@pytest.fixture(scope="module")
def many() -> str:
    """The text of some groups of the training."""
    made = itertools.islice(groups(3), N_GROUPS)
    return "\n".join(group.prefix + "".join(text for branch in group.branches for text, _ in branch) for group in made)


def asked(seed: int) -> tuple[list[Offer], Request]:
    composer = Composer(Draws(random.Random(seed)), None)  # type: ignore[arg-type]  # no chat here
    offers = composer.offers()
    return offers, composer.asked(offers)


@pytest.mark.parametrize("thinks", [False, True])
def test_the_text_is_the_template_s(thinks: bool) -> None:
    template = ChatTemplate(TEMPLATE.read_text(encoding="utf-8"), bos="", eos="", control_tokens=())
    for seed in range(30):
        offers, one = asked(seed)
        composer = Composer(Draws(random.Random(seed)), None)  # type: ignore[arg-type]
        begin = [*composer._asks(one.text, False), *composer._says(call(one), False)]
        result = composer._asks("\n<tool_response>\nit is é\n</tool_response>", thinks, bare=True)
        text = system_turn("Be brief.", offers) + "".join(text for text, _ in [*begin, *result])
        assert text == template.render(wire(offers, one, thinks)).text


def test_a_schema_is_told_as_the_prompt_tells_it() -> None:
    template = ChatTemplate(TEMPLATE.read_text(encoding="utf-8"), bos="", eos="", control_tokens=())
    d = Draws(random.Random(1))
    composer = Composer(d, None)  # type: ignore[arg-type]  # no chat here
    for system in ["", "Be brief."]:
        ask, _, schema = extraction(d)
        request = {
            "model": "m",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": ask}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
            **({"system": system} if system else {}),
        }
        text = schema_turn(system, schema) + "".join(text for text, _ in composer._asks(ask, False))
        assert text == template.render(parse_messages_request(json.dumps(request).encode())).text


def wire(offers: list[Offer], one: Request, thinks: bool) -> Any:
    tools = [{"name": each.name, "description": each.description, "input_schema": each.schema} for each in offers]
    use = {"type": "tool_use", "id": "toolu_1", "name": one.offer.name, "input": one.arguments}
    body = {
        "model": "any",
        "max_tokens": 2000,
        "system": "Be brief.",
        "tools": tools,
        "thinking": {"type": "enabled", "budget_tokens": 1024} if thinks else {"type": "disabled"},
        "messages": [
            {"role": "user", "content": one.text},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "it is é"}]},
        ],
    }
    return parse_messages_request(json.dumps(body).encode())


def test_a_seed_gives_the_same_dialogues() -> None:
    assert list(itertools.islice(groups(5), 20)) == list(itertools.islice(groups(5), 20))
    assert next(groups(5)) != next(groups(6))


def test_every_slot_is_filled(many: str) -> None:
    """What stands in angle brackets belongs to the template, or to a text about code."""
    left = {match[0] for match in SLOT.finditer(many)}
    assert left <= {"<think>", "<tools>", "<tool_call>", "<tool_response>"} | written()


def written() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in DATA.glob("*.yaml") if not path.name.startswith("tools_")]
    return {match[0] for text in texts for match in SLOT.finditer(text)}


def test_calls_are_json_that_their_schema_allows(many: str) -> None:
    """Each call names a tool of the system turn before it."""
    n = 0
    for turns in re.split(r"<\|im_start\|>system\n", many):
        shown = re.search(r"<tools>\n(.*?)\n</tools>", turns, re.S)
        tools = {tool["name"]: tool["parameters"] for tool in map(json.loads, shown[1].splitlines())} if shown else {}
        for found in re.finditer(r"<tool_call>\n(.*?)\n</tool_call>", turns, re.S):
            made = json.loads(found[1])
            jsonschema.validate(made["arguments"], tools[made["name"]])
            n += 1
    assert n > N_GROUPS


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


def test_nothing_of_the_evaluation_is_trained(many: str) -> None:
    assert len(evaluated_names()) > 50
    assert len(avoided()) > 100
    shown = set(re.findall(r'^\{"name": "([^"]+)", "description"', many, re.M))
    assert shown
    assert not shown & evaluated_names()
    passed = {value.casefold() for value in strings(many)}
    # What a tool's own data list as its values or settings is not an entity.
    assert not {value for value in passed & avoided() if value not in listed()}


def strings(text: str) -> set[str]:
    found = set()
    for match in re.finditer(r"<tool_call>\n(.*?)\n</tool_call>", text, re.S):
        found |= {value for value in json.loads(match[1])["arguments"].values() if isinstance(value, str)}
    return found


def listed() -> set[str]:
    values: set[str] = set()
    for family in families():
        for spec in family.parameters.values():
            values |= {str(value).casefold() for key in ("enum", "map") for value in spec.get(key) or ()}
    return values


def test_an_evaluation_draws_only_what_was_held_out() -> None:
    d = Draws(random.Random(1), held_out=True)
    cities = {kind(d, "city")[0] for _ in range(100)}
    assert all(held_out(city) for city in cities if len(city) > 3)
    trained = Draws(random.Random(1))
    assert not any(held_out(kind(trained, "city")[0]) for _ in range(300))


def test_held_out_tools_are_asked_for_in_an_evaluation_only() -> None:
    kept = [family for family in families() if family.held_out]
    assert 8 <= len(kept) <= 30
    for seed in range(40):
        assert not asked(seed)[1].offer.family.held_out


def test_there_is_enough_of_everything() -> None:
    assert len(families()) >= 120
    chats = [yaml.safe_load((DATA / name).read_text(encoding="utf-8")) for name in ("chat.yaml", "code.yaml")]
    assert sum(map(len, chats)) >= 500
    assert {one.domain for one in families()} >= {"home", "people", "travel", "leisure", "computer", "office", "facts"}


@pytest.mark.parametrize("key", [family.key for family in families()])
def test_each_tool_can_be_asked_for(key: str) -> None:
    family = next(one for one in families() if one.key == key)
    d = Draws(random.Random(key))
    made = [one for one in (request(offer(family, d), d) for _ in range(8)) if one]
    assert made
    for one in made:
        assert not SLOT.search(one.text + one.wants)
        jsonschema.validate(one.arguments, one.offer.schema)


def test_an_extracted_object_fits_its_schema() -> None:
    d = Draws(random.Random(2))
    for _ in range(150):
        ask, found, schema = extraction(d)
        jsonschema.validate(found, schema)
        assert not SLOT.search(ask)


def test_an_optional_argument_is_often_said(many: str) -> None:
    """What a request may leave out is said in a good part of the calls, and left out in another."""
    said = left_out = 0
    for turns in re.split(r"<\|im_start\|>system\n", many):
        shown = re.search(r"<tools>\n(.*?)\n</tools>", turns, re.S)
        tools = {tool["name"]: tool["parameters"] for tool in map(json.loads, shown[1].splitlines())} if shown else {}
        for found in re.finditer(r"<tool_call>\n(.*?)\n</tool_call>", turns, re.S):
            made = json.loads(found[1])
            required = set(tools[made["name"]].get("required", ()))
            said += bool(made["arguments"].keys() - required)
            left_out += bool(tools[made["name"]]["properties"].keys() - made["arguments"].keys())
    calls = many.count("<tool_call>")
    assert said > 0.3 * calls
    assert left_out > 0.3 * calls


def test_pairs_differ_in_one_thing() -> None:
    """An argument more, with the rest as it was; other values; or another tool."""
    seen = {"more": 0, "values": 0, "tool": 0}
    for seed in range(150):
        composer = Composer(Draws(random.Random(seed)), None)  # type: ignore[arg-type]  # no chat here
        offers = [one for one in composer.offers() if one.usable() and not one.family.held_out]
        if not offers:
            continue
        first = composer.asked(offers)
        second = composer._other(first, offers)
        if second.offer is not first.offer:
            seen["tool"] += 1
        elif second.arguments != first.arguments and second.arguments | first.arguments == second.arguments:
            seen["more"] += 1
        elif second.arguments.keys() == first.arguments.keys() and second.arguments != first.arguments:
            seen["values"] += 1
    assert min(seen.values()) > 10


def test_the_end_of_a_value_stays() -> None:
    """What the user says ends with its own mark; how the request is typed takes none of it away."""
    d = Draws(random.Random(1))
    composer = Composer(d, None)  # type: ignore[arg-type]
    family = next(one for one in families() if one.key == "write_file")
    made = [one for _ in range(400) if (one := request(offer(family, d), d))]
    ends = [one for one in made if one.text.endswith(("?", ".", "!")) and one.text.endswith(tuple(one.said.values()))]
    assert len(ends) > 5
    for one in ends:
        passed = [value for value in one.arguments.values() if isinstance(value, str)]
        typed = [composer.dressed(one, first=True), joined(one, one, d)]
        assert all(value in text for value in passed for text in typed)


def test_every_process_makes_the_same() -> None:
    """Sets are ordered anew in each process; nothing may be drawn from one."""
    code = "import itertools, demo_model.dialogues as made; print(list(itertools.islice(made.groups(5), 25)))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(DATA.parents[1])},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_a_schema_in_another_style_means_the_same() -> None:
    for seed in range(200):
        d = Draws(random.Random(seed))
        plain = offer(d.one(families()), d)
        one = styled(plain, d)
        jsonschema.Draft7Validator.check_schema(one.schema)
        assert one.slots.keys() == plain.slots.keys()
        assert set(one.schema["properties"]) == set(one.slots.values())
        assert len(one.schema.get("required", ())) == len(plain.schema.get("required", ()))


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
