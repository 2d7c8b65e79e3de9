"""The demo model's dialogues: tools made of words, and what five million parameters can learn."""

from __future__ import annotations

import itertools
import random
import re

import pytest

pytest.importorskip("faker", reason="no faker: pip install -e .[dev]")
pytest.importorskip("wonderwords", reason="no wonderwords: pip install -e .[dev]")

from demo_model.demo.dialogues import DemoComposer, DemoMix, groups, simple_families
from demo_model.demo.made_tools import made_tool, things
from demo_model.demo.simple_draws import SimpleDraws
from demo_model.dialogues import Group
from demo_model.kinds import kind
from demo_model.requests import request
from demo_model.tools import offer
from tests.demo_model.reading import calls_in, text_of


def some(count: int, mix: DemoMix) -> list[Group]:
    return list(itertools.islice(groups(3, mix=mix), count))


def test_a_seed_gives_the_same_dialogues() -> None:
    assert list(itertools.islice(groups(5), 20)) == list(itertools.islice(groups(5), 20))
    assert next(groups(5)) != next(groups(6))


def test_every_argument_of_a_made_tool_is_in_the_request_or_is_true() -> None:
    d = SimpleDraws(random.Random(2))
    asked = [one for _ in range(300) if (one := request(offer(made_tool(d), d), d))]
    assert len(asked) > 250
    for one in asked:
        for value in one.arguments.values():
            assert all(
                value is True or str(each) in one.text for each in (value if isinstance(value, list) else [value])
            )


def test_calls_are_to_offered_tools_with_what_they_require() -> None:
    calls = list(calls_in(text_of(some(60, DemoMix(copying=0.0)))))
    assert len(calls) > 60
    for tool, arguments in calls:
        parameters = tool["parameters"]
        assert set(parameters.get("required", ())) <= set(arguments) <= set(parameters["properties"])


def test_what_is_held_out_is_never_a_tool_in_training() -> None:
    unseen, seen = set(things(True)), set(things(False))
    assert len(unseen) > 200 and not unseen & seen
    composer = DemoComposer(SimpleDraws(random.Random(1), held_out=True))
    assert all(one.family.family in unseen for _ in range(20) for one in composer.offers() if one.family.held_out)
    trained = DemoComposer(SimpleDraws(random.Random(1)))
    offered = [one.family for _ in range(200) for one in trained.offers()]
    assert not any(family.held_out or (family.domain == "made" and family.family in unseen) for family in offered)


def test_no_tool_is_for_what_does_not_fit() -> None:
    composer = DemoComposer(SimpleDraws(random.Random(1)))
    for _ in range(100):
        offers = composer.offers()
        assert composer.unfit(offers).offer.family.family not in {one.family.family for one in offers}


def test_values_are_ascii_and_thoughts_begin_with_what_was_said() -> None:
    text = text_of(some(80, DemoMix(copying=0.0)))
    thoughts = re.findall(
        r"<\|im_start\|>user\n([^<]{1,70})<\|im_end\|>\n<\|im_start\|>assistant\n<think>\n(\w[^<]*)\n", text
    )
    assert len(thoughts) > 30
    assert all(thought.startswith(f"The user says: {said}\n") for said, thought in thoughts)
    calls = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text)
    assert sum(call.isascii() for call in calls) > 0.98 * len(calls) > 100


def test_it_is_spared_what_is_hard() -> None:
    """Schemas as other programs write them, long words, and several settings that the request words in its own way."""
    text = text_of(some(100, DemoMix()))
    assert not re.search(r'"anyOf"|"\$schema"|"default"|"minimum"|\bArgs:', text)
    d = SimpleDraws(random.Random(4))
    assert not any(re.search("[A-Za-z]{13}", kind(d, name)[0]) for name in ("username", "hostname") for _ in range(400))
    assert all(len(settings) < 2 for family in simple_families() for _, settings in family.requests)
