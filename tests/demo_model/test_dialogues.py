"""The training dialogues: the template's own text, the same from a seed, and nothing of the evaluation in them."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
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
from demo_model.mix import USUAL, Mix
from demo_model.requests import Request
from demo_model.tools import Offer, evaluated_names, families
from demo_model.values import SLOT
from demo_model.wording import call, schema_turn, system_turn
from nbllama.chat.template import ChatTemplate
from nbllama.wire.requests import parse_messages_request
from tests.demo_model.reading import calls_in, said, text_of

TEMPLATE = Path(nbllama.__file__).parent / "models" / "smollm2-tools.jinja"
N_GROUPS = 150


@pytest.fixture(scope="module")
def many() -> str:
    """The text of some groups of the training."""
    return text_of(itertools.islice(groups(3), N_GROUPS))


@pytest.mark.parametrize("thinks", [False, True])
def test_the_text_is_the_template_s(thinks: bool) -> None:
    template = ChatTemplate(TEMPLATE.read_text(encoding="utf-8"), bos="", eos="", control_tokens=())
    for seed in range(30):
        composer = Composer(Draws(random.Random(seed)), None)  # type: ignore[arg-type]  # no chat here
        offers = composer.offers()
        one = composer.asked(offers)
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
        schema |= {"description": "naïve"}
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
    return {value for _, arguments in calls_in(text) for value in arguments.values() if isinstance(value, str)}


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


def test_there_is_enough_of_everything() -> None:
    assert len(families()) >= 120
    chats = [yaml.safe_load((DATA / name).read_text(encoding="utf-8")) for name in ("chat.yaml", "code.yaml")]
    assert sum(map(len, chats)) >= 500
    assert {one.domain for one in families()} >= {"home", "people", "travel", "leisure", "computer", "office", "facts"}


def test_an_extracted_object_fits_its_schema() -> None:
    d = Draws(random.Random(2))
    for _ in range(150):
        ask, found, schema = extraction(d)
        jsonschema.validate(found, schema)
        assert not SLOT.search(ask)


def test_calls_are_json_that_their_schema_allows(many: str) -> None:
    """Each call names a tool of the system turn before it."""
    calls = list(calls_in(many))
    assert len(calls) > N_GROUPS
    for tool, arguments in calls:
        jsonschema.validate(arguments, tool["parameters"])


def test_an_optional_argument_is_often_said(many: str) -> None:
    """What a request may leave out is said in a good part of the calls, and left out in another."""
    calls = [(tool["parameters"], arguments) for tool, arguments in calls_in(many)]
    more = sum(bool(arguments.keys() - set(schema.get("required", ()))) for schema, arguments in calls)
    left_out = sum(bool(schema["properties"].keys() - arguments.keys()) for schema, arguments in calls)
    assert more > 0.45 * len(calls)
    assert left_out > 0.35 * len(calls)


def test_pairs_occur() -> None:
    """A group's first two dialogues are now and then the same call, once with an argument more."""
    assert fuller(USUAL) > 10
    assert fuller(USUAL) > 4 * fuller(replace(USUAL, pairs=0.0))


def fuller(mix: Mix) -> int:
    """Groups whose second dialogue calls as the first does, with more arguments."""
    count = 0
    for group in itertools.islice(groups(3, mix=mix), 2 * N_GROUPS):
        one, other = (next(calls_in(group.prefix + said(branch)), None) for branch in group.branches[:2])
        if one and other and one[0] == other[0] and one[1] != other[1]:
            count += bool(one[1]) and one[1] | other[1] == other[1] | one[1] == other[1]
    return count


def test_every_process_makes_the_same() -> None:
    """Sets are ordered anew in each process; nothing may be drawn from one."""
    code = "import itertools, demo_model.dialogues as made; print(list(itertools.islice(made.groups(5), 8)))"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(DATA.parents[1])}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    same = printed.decode().strip() == str(list(itertools.islice(groups(5), 8)))
    assert same, "a set's order is in the dialogues"
