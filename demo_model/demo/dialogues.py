"""Dialogues for the demo model: the common form, with what five million parameters can learn.

Half of the tools are made of words, so that reading a schema pays; the hand-written ones keep their short requests and
values in ASCII. Thinking repeats the request and says what follows. Some groups are long: many tools, a system prompt
full of records, many turns.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from demo_model.chats import extraction
from demo_model.demo import copying
from demo_model.demo.made_tools import made_tool
from demo_model.demo.simple_draws import SimpleDraws
from demo_model.demo.small_talk import SmallTalk
from demo_model.dialogues import GENERAL, Composer, Group, Segment
from demo_model.draws import Draws
from demo_model.mix import Mix
from demo_model.offering import FEWER_TOOLS, SHELLS
from demo_model.requests import Request, request
from demo_model.tools import Family, Offer, families, offer
from demo_model.wording import dressed, listed, schema_turn, shortened, system_prompt, system_turn

HARD_KINDS = {"sql", "shell", "python", "iban", "uuid", "coordinates", "isbn"}
LONGEST_REQUEST = 80
MOST_SETTINGS = 1  # said in other words than the parameter's: those have to be learnt by heart
REFUSALS = [
    "I have no tool for that.",
    "None of my tools can do that.",
    "Sorry, I can't do that with the tools that I have.",
    "I can't do that: I only have {names}.",
]


@dataclass(frozen=True)
class DemoMix(Mix):
    """Shares of the groups. `length` scales the long ones: at 1 they stay below about 4,000 tokens."""

    copying: float = 0.08
    hand_written: float = 0.3
    long: float = 0.08
    length: float = 1.0
    branches: int = 6
    beside: float = 0.0
    pairs: float = 0.0


COPYING = DemoMix(copying=0.7, long=0.0)
LONG = DemoMix(long=0.3, length=2.2)


def groups(seed: int, *, held_out: bool = False, mix: DemoMix = DemoMix()) -> Iterator[Group]:
    """Groups without end. The same seed gives the same groups."""
    composer = DemoComposer(SimpleDraws(random.Random(seed), held_out), mix)
    while True:
        yield composer.group()


@cache
def simple_families() -> list[Family]:
    """The hand-written tools that are not too hard, each with its shorter requests. None that can do anything."""
    kept = []
    for family in families():
        kinds = {str(spec.get("kind", "")) for spec in family.parameters.values()}
        short = [wording for wording in family.requests if _simple(*wording)]
        if not kinds & HARD_KINDS and family.key not in GENERAL | SHELLS and len(short) > 3:
            kept.append(replace(family, requests=short))
    return kept


def _simple(say: str, set: dict[str, Any]) -> bool:
    return len(say) <= LONGEST_REQUEST and say.isascii() and len(set) <= MOST_SETTINGS


class DemoComposer(Composer):
    """Makes groups for the demo model from one stream of random numbers. What is held out is made of words."""

    mix: DemoMix

    def __init__(self, draws: Draws, mix: DemoMix = DemoMix()) -> None:
        super().__init__(draws, SmallTalk(), mix)
        self.others = [family for family in simple_families() if draws.held_out or not family.held_out]
        self.families = [family for family in self.others if family.held_out == draws.held_out]
        self._heard = ""

    def group(self) -> Group:
        if self.d.often(self.mix.copying):
            return self._copying_group()
        if self.d.often(self.mix.long):
            return self._long_group()
        return super().group()

    # --- tools

    def offers(self, n: int | None = None) -> list[Offer]:
        """One to six tools, or `n`. The first can be asked for; of the others half are for nearly the same."""
        n = n or self.d.one(FEWER_TOOLS)
        first = self._family()
        made: dict[str, Offer] = {}
        while len(made) < n:
            one = offer(self._neighbour(first) if made else first, self.d)
            if made or one.usable():
                made.setdefault(one.name, one)
            else:
                first = self._family()
        mixed = list(made.values())
        self.d.random.shuffle(mixed)
        return mixed

    def _family(self) -> Family:
        """A tool to ask for."""
        hand_written = not self.d.held_out and self.d.often(self.mix.hand_written)
        return self.d.one(self.families) if hand_written else made_tool(self.d)  # type: ignore[no-any-return]

    def _neighbour(self, first: Family) -> Family:
        if first.domain == "made":
            return made_tool(self.d, first.family) if self.d.often(0.4) else self._other()
        near = [one for one in self.others if one.domain == first.domain]
        return self.d.one(near) if self.d.often(0.5) else self._other()  # type: ignore[no-any-return]

    def _other(self) -> Family:
        return self.d.one(self.others) if self.d.often(self.mix.hand_written) else made_tool(self.d)  # type: ignore[no-any-return]

    def unfit(self, offers: list[Offer]) -> Request:
        """A request that none of the tools is for."""
        here = {one.family.family for one in offers} | {one.family.domain for one in offers} - {"made"}
        while True:
            other = self._other()
            made = request(offer(other, self.d), self.d) if not {other.family, other.domain} & here else None
            if made:
                return made

    # --- dialogues

    def _no_tool(self, offers: list[Offer]) -> list[Segment]:
        thinks = self.d.often(self.mix.thinking)
        if self.d.often(0.35):
            ask, answer = self.chats.one(self.d)
            return [*self._asks(ask, thinks), *self._says(answer, thinks and "No tool is needed.")]
        answer = self.d.one(REFUSALS).format(names=listed([one.name for one in offers[:3]]))
        asked = self._asks(dressed(self.unfit(offers), self.d, first=True), thinks)
        return [*asked, *self._says(answer, thinks and "No tool does that.")]

    def _thought(self, requests: list[Request]) -> str:
        return f"I call {listed([one.offer.name for one in requests])}."

    def _chat(self) -> list[Segment]:
        branch: list[Segment] = []
        for ask, answer in self.chats.dialogue(self.d):
            thinks = self.d.often(self.mix.thinking)
            branch += [*self._asks(ask, thinks), *self._says(answer, thinks and "I answer that.")]
        return branch

    def _structured(self) -> list[Segment]:
        ask, value, schema = extraction(self.d)
        thinks = self.d.often(self.mix.thinking)
        thought = thinks and "I take the values from the text."
        told = (schema_turn("", schema), False)
        return [told, *self._asks(ask, thinks), *self._says(json.dumps(value), thought)]

    def _asks(self, text: str, thinks: bool, *, bare: bool = False) -> list[Segment]:
        self._heard = "" if bare else text
        return super()._asks(text, thinks, bare=bare)

    def _says(self, text: str, thought: str | bool) -> list[Segment]:
        """Every thought on a request begins with the request."""
        if thought and self._heard:
            thought = f"The user says: {shortened(self._heard)}\n{thought}"
        return super()._says(text, thought)

    # --- copying, and what is long

    def _copying_group(self) -> Group:
        count = self.d.one([3, 4, 6, 8, 12])
        if self.d.often(0.5):
            asked = [self.d.one([copying.repetition, copying.choice])(self.d) for _ in range(self.mix.branches)]
            return Group("", [self._answered(one) for one in asked])
        text, asked = copying.records(self.d, count, self.mix.branches)
        return Group(system_turn(text, []), [self._answered(one) for one in asked])

    def _answered(self, one: copying.Question) -> list[Segment]:
        return [*self._asks(one[0], False), *self._says(one[1], False)]

    def _long_group(self) -> Group:
        """Many tools, or many records before few tools, or many turns."""
        way = self.d.random.randrange(3)
        if way == 0:
            offers = self.offers(self._up_to(7, 20))
            return Group(system_turn(system_prompt(self.d, 0.3), offers), [self._with_tools(offers) for _ in range(4)])
        if way == 1:
            text, asked = copying.records(self.d, self._up_to(15, 70), 4)
            offers = self.offers(self.d.one([1, 2, 3])) if self.d.often(0.6) else []
            used = [self._with_tools(offers) for _ in range(2)] if offers else [self._chat()]
            return Group(system_turn(text, offers), [*map(self._answered, asked), *used])
        offers = self.offers(self.d.one([1, 2, 3])) if self.d.often(0.6) else []
        turns = [self._with_tools(offers) if offers else self._chat() for _ in range(self._up_to(5, 25))]
        return Group(system_turn(system_prompt(self.d, 0.3), offers), [[part for turn in turns for part in turn]])

    def _up_to(self, low: int, high: int) -> int:
        return self.d.random.randint(low, int(high * self.mix.length))
