"""Chats that a tiny model can learn by heart, and some that it can work out."""

from __future__ import annotations

from functools import cache
from typing import Any

from demo_model.chats import Chats
from demo_model.demo import copying
from demo_model.draws import Draws, load, words

LONGEST, LONGEST_CODE = 110, 240
ENTRIES, CODE_ENTRIES = 320, 24
PRIME = "Write a function that checks whether a number is prime"
RECURSION = "explain recursion"
GREETINGS = 12  # the first entries of chat.yaml


class SmallTalk(Chats):
    """A few hundred questions of `chat.yaml` and `code.yaml` with short answers, those that everybody tries more often;
    counting, sums, names; what the demo model says of itself."""

    def __init__(self) -> None:
        super().__init__("demo")

    def one(self, d: Draws) -> tuple[str, str]:
        share = d.random.random()
        if share < 0.2:
            return d.one([_count, _sum, copying.repetition, _who_am_i, copying.choice])(d)
        entries = _essential() if share < 0.38 else self._identity if share < 0.52 else _known()
        entry = d.one(entries)
        return str(d.one(entry["ask"])).strip(), str(d.one(entry["answers"])).strip()


@cache
def _known() -> list[dict[str, Any]]:
    chats = [entry for entry in load("chat.yaml") if _short(entry, LONGEST)]
    step = max(1, len(chats) // ENTRIES)
    return [*chats[::step], *[entry for entry in load("code.yaml") if _short(entry, LONGEST_CODE)][:CODE_ENTRIES]]


def _short(entry: dict[str, Any], longest: int) -> bool:
    return all(str(answer).isascii() and len(str(answer)) <= longest for answer in entry["answers"])


@cache
def _essential() -> list[dict[str, Any]]:
    """Greetings, and the two questions that show what a model can do."""
    both = [*load("chat.yaml"), *load("code.yaml")]
    asked = [entry for entry in both if {PRIME, RECURSION} & {str(ask) for ask in entry["ask"]}]
    return [*load("chat.yaml")[:GREETINGS], *asked, *asked]


def _count(d: Draws) -> tuple[str, str]:
    last = d.random.randint(3, 20)
    ask = d.one(["Count to {}.", "Count from 1 to {}", "count to {}", "Please count up to {}."]).format(last)
    return ask, " ".join(str(number) for number in range(1, last + 1))


def _sum(d: Draws) -> tuple[str, str]:
    a, b = d.random.randint(0, 20), d.random.randint(0, 20)
    return d.one(["What is {} + {}?", "{} + {}", "What is {} plus {}?"]).format(a, b), f"{a} + {b} is {a + b}."


def _who_am_i(d: Draws) -> tuple[str, str]:
    name, thing = copying.value(d, "first_name"), d.one(words("noun"))
    if d.often(0.5):
        return f"My name is {name}. What is my name?", f"Your name is {name}."
    return f"I am {name} and I have a {thing}. Who am I, and what do I have?", f"You are {name} and you have a {thing}."
