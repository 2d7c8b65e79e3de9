"""Dialogues for tests: a system turn with made-up tools, then several ways to go on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

WORDS = ("weather city tool name value text number path file user wants about " + "über naïve 北京 3.14 don't").split()


@dataclass
class Group:
    prefix: str
    branches: list[list[tuple[str, bool]]]


def groups(seed: int, *, held_out: bool = False) -> Iterator[Group]:
    """The same groups for the same seed; others when held out."""
    chance = random.Random(f"{seed} {held_out}")
    while True:
        tools = "".join(f'\n{{"name": "{words(chance, 1)}", "description": "{words(chance, 9)}"}}' for _ in range(3))
        prefix = f"<|im_start|>system\n<tools>{tools}\n</tools><|im_end|>\n"
        yield Group(prefix, [branch(chance) for _ in range(chance.randint(3, 5))])


def branch(chance: random.Random) -> list[tuple[str, bool]]:
    asked = f"<|im_start|>user\n{words(chance, chance.randint(3, 12))}<|im_end|>\n<|im_start|>assistant\n"
    call = f'<tool_call>\n{{"name": "{words(chance, 1)}"}}\n</tool_call><|im_end|>\n'
    return [(asked, False), ("<think>\n\n</think>\n\n", False), (call, True)]


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(count))
