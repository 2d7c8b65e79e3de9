"""Dialogues to learn from, as text in the form of the chat template.

A group is a beginning (the system turn with its tools) and several dialogues that each continue it, so that a trainer
computes the beginning once. A dialogue is a list of segments, and only what the assistant writes is learnt. What the
template writes is written here again, faster; a test holds the two together.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from demo_model.asides import with_more
from demo_model.chats import Chats, extraction
from demo_model.demo.made_tools import made_tool
from demo_model.draws import Draws
from demo_model.kinds import kind
from demo_model.lookups import lookup
from demo_model.schemas import styled
from demo_model.tools import Family, Offer, Request, families, fill, fill_json, offer, request, said_for
from demo_model.wording import (
    AND_THEN,
    CLOSINGS,
    FAILED,
    OPENINGS,
    PROBLEMS,
    REFUSALS,
    SYSTEMS,
    UNFIT,
    able,
    call,
    joined,
    listed,
    lowered,
    respaced,
    schema_turn,
    shortened,
    system_turn,
    uncapitalised,
)

Segment = tuple[str, bool]

TOOLS = [1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6]
SHELLS = {"run_shell"}
SHELL_DOMAINS = {"computer", "builders"}
# With one of these at hand hardly anything fits no tool.
GENERAL = {"web_search", "encyclopedia", "run_python", "run_shell", "http_get", "http_request"}


@dataclass(frozen=True)
class Group:
    """`prefix` begins each of the `branches`; a branch is segments of text, True where they are to be learnt."""

    prefix: str
    branches: list[list[Segment]]


@dataclass(frozen=True)
class Mix:
    """Shares of the groups and, inside those with tools, of the dialogues.

    `optional`: requests that are drawn from those with an optional argument, where the tool has such; `beside`: with
    one that is added by its name; `pairs`: groups of which two dialogues differ in one thing; `made`: groups around a
    tool that is put together of words.
    """

    chat: float = 0.2
    structured: float = 0.08
    two: float = 0.2
    none: float = 0.13
    incomplete: float = 0.03
    result: float = 0.42
    problem: float = 0.14
    more_turns: float = 0.2
    optional: float = 0.45
    beside: float = 0.12
    pairs: float = 0.3
    made: float = 0.3
    thinking: float = 0.3
    branches: int = 5


def groups(seed: int, *, held_out: bool = False, identity: str = "smollm2", mix: Mix = Mix()) -> Iterator[Group]:
    """Groups without end. The same seed gives the same groups."""
    composer = Composer(Draws(random.Random(seed), held_out), Chats(identity), mix)
    while True:
        yield composer.group()


class Composer:
    """Makes groups from one stream of random numbers."""

    def __init__(self, draws: Draws, chats: Chats, mix: Mix = Mix()) -> None:
        self.d = draws
        self.chats = chats
        self.mix = mix
        self.families = [family for family in families() if family.held_out == draws.held_out]
        self.others = families()

    def group(self) -> Group:
        share = self.d.random.random()
        if share < self.mix.chat:
            return self._chat_group()
        if share < self.mix.chat + self.mix.structured:
            return Group("", [self._structured() for _ in range(self.mix.branches)])
        offers = self.offers()
        branches = self._pair(offers) if self.d.often(self.mix.pairs) else []
        branches += [self._with_tools(offers) for _ in range(self.mix.branches - len(branches))]
        return Group(system_turn(self._system(0.3), offers), branches)

    def offers(self, n: int | None = None) -> list[Offer]:
        """One to six tools; where there are several, near ones are among them more often than not."""
        n = n or self.d.random.choice([1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6] if self.d.held_out else TOOLS)
        first = self._made() if self._makes(self.mix.made) else self.d.one(self.families)
        chosen = [first]
        for _ in range(40):
            if len(chosen) == n:
                break
            near = [
                one
                for one in self.others
                if one.family == first.family or (self.d.often(0.3) and one.domain == first.domain)
            ]
            another = self.d.one(near) if near and self.d.often(0.55) else self.d.one(self.others)
            if first.domain == "made" and self.d.often(0.6):
                another = made_tool(self.d, first.family if self.d.often(0.6) else None)
            elif first.domain == "lookups" and self.d.often(0.6):
                another = lookup(self.d, chosen)
            if another.key not in {one.key for one in chosen}:
                chosen.append(another)
        made, names = [], set()
        for family in chosen:
            one = self._offered(family)
            if one.name not in names and (family is not first or one.usable()):
                names.add(one.name)
                made.append(one)
        if {one.family.key for one in made} & SHELLS:
            # A shell can do what most tools of a computer do: beside it no other is the only right one.
            made = [one for one in made if one.family.domain not in SHELL_DOMAINS or one.family.key in SHELLS]
        self.d.random.shuffle(made)
        return made or self.offers(n)

    def _made(self) -> Family:
        """A tool that nobody wrote: those are too few to learn from that a schema has to be read."""
        return lookup(self.d) if self.d.often(0.6) else made_tool(self.d)

    def _makes(self, share: float) -> bool:
        """Whether to do what only training does: an evaluation has the hand-written tools, plainly listed."""
        return not self.d.held_out and self.d.often(share)

    def _offered(self, family: Family) -> Offer:
        one = offer(family, self.d)
        return styled(one, self.d) if self._makes(0.6) else one

    def asked(self, offers: list[Offer]) -> Request:
        """A request for one of the tools; in an evaluation only for one that was held out."""
        able = [one for one in offers if one.family.held_out == self.d.held_out and one.usable()]
        if not able:
            return self.asked(self.offers())
        chosen = self.d.one(able)
        fuller = chosen.with_optional() if self._makes(self.mix.optional) else None
        made = request(chosen, self.d, fuller)
        assert made  # its schema fits a wording
        return (with_more(made, self.d) if self._makes(self.mix.beside) else None) or made

    def unfit(self, offers: list[Offer]) -> Request | None:
        """A request of another domain and family than all of the tools; None where its schema has no wording."""
        families_here = {one.family.family for one in offers}
        domains = {one.family.domain for one in offers}
        others = [one for one in self.others if one.family not in families_here and one.domain not in domains]
        return request(offer(self.d.one(others), self.d), self.d)

    # --- dialogues with tools

    def _with_tools(self, offers: list[Offer]) -> list[Segment]:
        branch: list[Segment] = []
        able = [one for one in offers if one.usable() and one.family.held_out == self.d.held_out]
        turns = 1 + (self.d.often(self.mix.more_turns) + self.d.often(self.mix.more_turns / 2))
        for turn in range(turns):
            share = self.d.random.random()
            if share < self.mix.none or not able:
                branch += self._no_tool(offers)
            elif share < self.mix.none + self.mix.incomplete:
                branch += self._incomplete(able)
            elif share < self.mix.none + self.mix.incomplete + self.mix.two:
                branch += self._calls(self._two(able), first=turn == 0, last=turn == turns - 1)
            else:
                branch += self._calls([self.asked(able)], first=turn == 0, last=turn == turns - 1)
        return branch

    def _pair(self, offers: list[Offer]) -> list[list[Segment]]:
        """Two dialogues that differ in one thing: an optional argument, the values, or which tool is wanted."""
        able = [one for one in offers if one.usable() and one.family.held_out == self.d.held_out]
        if not able:
            return []
        first = self.asked(able)
        second = self._other(first, able)
        return [self._calls([one], first=True, last=True) for one in (first, second)]

    def _other(self, first: Request, able: list[Offer]) -> Request:
        share = self.d.random.random()
        others = [one for one in able if one is not first.offer]
        if others and share < 0.35:
            return self.asked([self.d.one(others)])
        more = with_more(first, self.d) if share < 0.6 else None
        if share < 0.8 and more is None and (fuller := first.offer.with_optional()):
            more = request(first.offer, self.d, fuller, like=first)
        return more or request(first.offer, self.d, [first.wording]) or first

    def _two(self, able: list[Offer]) -> list[Request]:
        same = self.d.one(able) if self.d.often(0.5) else None
        first, second = (self.asked([same] if same else able) for _ in range(2))
        return [first] if first.arguments == second.arguments and first.offer is second.offer else [first, second]

    def _calls(self, requests: list[Request], *, first: bool, last: bool) -> list[Segment]:
        text = (
            self.dressed(requests[0], first=first) if len(requests) == 1 else joined(requests[0], requests[1], self.d)
        )
        thinks = self.d.often(self.mix.thinking)
        calls = "\n".join(call(one) for one in requests)
        branch = [*self._asks(text, thinks), *self._says(calls, thinks and self._thought(requests))]
        if not last or self.d.often(self.mix.result):
            branch += self._answers(requests)
        return branch

    def _answers(self, requests: list[Request]) -> list[Segment]:
        shown, answers, notes = [], [], []
        for one in requests:
            if self.d.often(self.mix.problem):
                result, why = self.d.one(PROBLEMS)
                answer = self.d.one(FAILED).format(wants=one.wants, why=why)
                notes.append(f"{one.offer.name} failed: {why}.")
            else:
                result, answer = self.result(one)
                notes.append(f"{one.offer.name} has answered.")
            shown.append(f"<tool_response>\n{result}\n</tool_response>")
            answers.append(answer)
        thinks = self.d.often(self.mix.thinking * 0.7)
        thought = " ".join(notes) + self.d.one(
            [" I tell the user.", " I say so.", " I put it into words.", " Now I can answer."]
        )
        return [
            *self._asks("\n" + "\n".join(shown), thinks, bare=True),
            *self._says(" ".join(answers), thinks and thought),
        ]

    def result(self, one: Request) -> tuple[str, str]:
        chosen = self.d.one(one.offer.family.results)
        known = dict(one.said)
        result = fill_json(str(chosen["result"]), known, self.d)
        answer = fill(str(self.d.one(chosen["answers"])), known, self.d)
        if "<" in answer and any(f"<{slot}" in answer for slot in one.offer.family.parameters):
            # An answer that names an optional parameter which this request has not.
            return "ok", "Done."
        if result.startswith(("{", "[")) and self.d.often(0.3):
            result = respaced(result, self.d)
        return result, answer

    def _no_tool(self, offers: list[Offer]) -> list[Segment]:
        if self.d.often(0.45):
            ask, answer = self.chats.one(self.d)
            thinks = self.d.often(self.mix.thinking)
            thought = self.d.one(
                [
                    "No tool is needed here. I answer by myself.",
                    "I can answer this without a tool.",
                    "This needs none of the tools.",
                ]
            )
            return [*self._asks(ask, thinks), *self._says(answer, thinks and thought)]
        keys = {one.family.family for one in offers} | {one.family.key for one in offers}
        for _ in range(50):
            other = self.d.one(self.others)
            made = request(offer(other, self.d), self.d) if other.family not in keys else None
            if made and not keys & GENERAL:
                break
        else:
            return self._incomplete(offers)
        names = listed([one.name for one in offers])
        answer = self.d.one(REFUSALS).format(wants=able(made.wants), names=names)
        thinks = self.d.often(self.mix.thinking)
        reason = self.d.one(UNFIT).format(names=names)
        thought = f"The user wants to {made.wants}. {reason}"
        return [*self._asks(self.dressed(made, first=True), thinks), *self._says(answer, thinks and thought)]

    def _incomplete(self, offers: list[Offer]) -> list[Segment]:
        able = [one for one in offers if one.family.incomplete]
        if not able:
            return self._no_tool(offers) if offers else []
        one = self.d.one(able)
        chosen = self.d.one(one.family.incomplete)
        thinks = self.d.often(self.mix.thinking)
        thought = f"{one.name} fits, but something that it needs was not said. I ask."
        said = said_for(one, str(chosen["say"]), self.d)
        ask, back = fill(str(chosen["say"]), said), fill(str(chosen["ask"]), said)
        return [*self._asks(ask, thinks), *self._says(back, thinks and thought)]

    def _thought(self, requests: list[Request]) -> str:
        parts = []
        for one in requests:
            given = listed([f"{name} {shortened(value)}" for name, value in one.arguments.items()])
            then = self.d.one(
                [
                    f"{one.offer.name} does that",
                    f"I call {one.offer.name}",
                    f"{one.offer.name} is the right tool",
                    f"For that there is {one.offer.name}",
                ]
            )
            parts.append(f"The user wants to {one.wants}. {then}{f' with {given}' if given else ''}.")
        return "\n".join(parts)

    # --- dialogues without tools

    def _chat_group(self) -> Group:
        system = self._system(0.35)
        return Group(system_turn(system, []), [self._chat() for _ in range(self.mix.branches)])

    def _chat(self) -> list[Segment]:
        branch: list[Segment] = []
        for ask, answer in self.chats.dialogue(self.d):
            thinks = self.d.often(self.mix.thinking * 0.7)
            thought = self.d.one(
                [
                    f"The user says: {shortened(ask)}. I answer shortly.",
                    "I know this and can answer directly.",
                    f"The question is: {shortened(ask)}",
                ]
            )
            branch += [*self._asks(ask, thinks), *self._says(answer, thinks and thought)]
        return branch

    def _structured(self) -> list[Segment]:
        ask, value, schema = extraction(self.d)
        thinks = self.d.often(self.mix.thinking * 0.5)
        thought = f"The answer is an object with {listed(list(value))}. I take the values from the text."
        text = json.dumps(value, ensure_ascii=False)
        told = (schema_turn(self._system(0.15), schema), False)
        return [told, *self._asks(ask, thinks), *self._says(text, thinks and thought)]

    # --- turns

    def _asks(self, text: str, thinks: bool, *, bare: bool = False) -> list[Segment]:
        begin = "<|im_start|>user" + ("" if bare else "\n")
        opened = "" if thinks else "<think>\n\n</think>\n\n"
        return [(f"{begin}{text}<|im_end|>\n<|im_start|>assistant\n{opened}", False)]

    def _says(self, text: str, thought: str | bool) -> list[Segment]:
        thinking = f"<think>\n{thought}\n</think>\n\n" if thought else ""
        return [(f"{thinking}{text}<|im_end|>", True), ("\n", False)]

    def _system(self, share: float) -> str:
        if not self.d.often(share):
            return ""
        names = {
            "date": kind(self.d, "iso_date")[0],
            "name": kind(self.d, "first_name")[0],
            "city": kind(self.d, "city")[0],
        }
        return str(self.d.one(SYSTEMS)).format(**names)

    def dressed(self, one: Request, *, first: bool) -> str:
        """The request as somebody types it: with a greeting, in lower case at its start, without its full stop."""
        share = self.d.random.random()
        if not first:
            return lowered(self.d.one(AND_THEN), one)
        if share < 0.12:
            return lowered(self.d.one(OPENINGS), one)
        if share < 0.2 and one.text[-1:] in ".!?":
            return lowered(self.d.one(CLOSINGS), one)
        if share < 0.3:
            return uncapitalised(one)[: len(one.unended)] if one.text.endswith(".") else uncapitalised(one)
        if share < 0.36:
            return one.unended
        return one.text
