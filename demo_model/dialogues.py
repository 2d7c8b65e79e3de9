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

from demo_model.chats import Chats, extraction
from demo_model.draws import Draws
from demo_model.mix import USUAL, Mix
from demo_model.offering import Offering
from demo_model.requests import Request, request, said_for
from demo_model.tools import Offer, offer
from demo_model.values import fill, fill_json
from demo_model.wording import (
    CHATTING,
    CHOOSING,
    FAILED,
    NO_TOOL_NEEDED,
    PROBLEMS,
    REFUSALS,
    TELLING,
    UNFIT,
    call,
    doable,
    dressed,
    joined,
    listed,
    respaced,
    schema_turn,
    shortened,
    system_prompt,
    system_turn,
)

Segment = tuple[str, bool]

# With one of these at hand hardly anything fits no tool.
GENERAL = {"web_search", "encyclopedia", "run_python", "run_shell", "http_get", "http_request"}


@dataclass(frozen=True)
class Group:
    """`prefix` begins each of the `branches`; a branch is segments of text, True where they are to be learnt."""

    prefix: str
    branches: list[list[Segment]]


def groups(seed: int, *, held_out: bool = False, identity: str = "smollm2", mix: Mix = USUAL) -> Iterator[Group]:
    """Groups without end. The same seed gives the same groups."""
    composer = Composer(Draws(random.Random(seed), held_out), Chats(identity), mix)
    while True:
        yield composer.group()


class Composer(Offering):
    """Makes groups from one stream of random numbers."""

    def __init__(self, draws: Draws, chats: Chats, mix: Mix = USUAL) -> None:
        super().__init__(draws, mix)
        self.chats = chats

    def group(self) -> Group:
        share = self.d.random.random()
        if share < self.mix.chat:
            return self._chat_group()
        if share < self.mix.chat + self.mix.structured:
            return Group("", [self._structured() for _ in range(self.mix.branches)])
        offers = self.offers()
        branches = self._pair(offers) if self.d.often(self.mix.pairs) else []
        branches += [self._with_tools(offers) for _ in range(self.mix.branches - len(branches))]
        return Group(system_turn(system_prompt(self.d, 0.3), offers), branches)

    # --- dialogues with tools

    def _with_tools(self, offers: list[Offer]) -> list[Segment]:
        branch: list[Segment] = []
        able = self.askable(offers)
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
        if not self.askable(offers):
            return []
        first = self.asked(offers)
        second = self.unlike(first, offers)
        return [self._calls([one], first=True, last=True) for one in (first, second)]

    def _two(self, able: list[Offer]) -> list[Request]:
        same = self.d.one(able) if self.d.often(0.5) else None
        first, second = (self.asked([same] if same else able) for _ in range(2))
        return [first] if first.arguments == second.arguments and first.offer is second.offer else [first, second]

    def _calls(self, requests: list[Request], *, first: bool, last: bool) -> list[Segment]:
        two = len(requests) == 2
        text = joined(requests[0], requests[1], self.d) if two else dressed(requests[0], self.d, first=first)
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
        thought = f"{' '.join(notes)} {self.d.one(TELLING)}"
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
            thought = self.d.one(NO_TOOL_NEEDED)
            return [*self._asks(ask, thinks), *self._says(answer, thinks and thought)]
        made = self._beyond(offers)
        if not made:
            return self._incomplete(offers)
        names = listed([one.name for one in offers])
        answer = self.d.one(REFUSALS).format(wants=doable(made.wants), names=names)
        thinks = self.d.often(self.mix.thinking)
        thought = f"The user wants to {made.wants}. {self.d.one(UNFIT).format(names=names)}"
        asked = self._asks(dressed(made, self.d, first=True), thinks)
        return [*asked, *self._says(answer, thinks and thought)]

    def _beyond(self, offers: list[Offer]) -> Request | None:
        """A request that none of the tools is for. None beside one that nearly everything can be done with."""
        keys = {one.family.family for one in offers} | {one.family.key for one in offers}
        for _ in range(50):
            other = self.d.one(self.others)
            made = request(offer(other, self.d), self.d) if other.family not in keys else None
            if made and not keys & GENERAL:
                return made
        return None

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
            then = self.d.one(CHOOSING).format(tool=one.offer.name)
            parts.append(f"The user wants to {one.wants}. {then}{f' with {given}' if given else ''}.")
        return "\n".join(parts)

    # --- dialogues without tools

    def _chat_group(self) -> Group:
        system = system_prompt(self.d, 0.35)
        return Group(system_turn(system, []), [self._chat() for _ in range(self.mix.branches)])

    def _chat(self) -> list[Segment]:
        branch: list[Segment] = []
        for ask, answer in self.chats.dialogue(self.d):
            thinks = self.d.often(self.mix.thinking * 0.7)
            thought = self.d.one(CHATTING).format(asks=shortened(ask))
            branch += [*self._asks(ask, thinks), *self._says(answer, thinks and thought)]
        return branch

    def _structured(self) -> list[Segment]:
        ask, value, schema = extraction(self.d)
        thinks = self.d.often(self.mix.thinking * 0.5)
        thought = f"The answer is an object with {listed(list(value))}. I take the values from the text."
        text = json.dumps(value, ensure_ascii=False)
        told = (schema_turn(system_prompt(self.d, 0.15), schema), False)
        return [told, *self._asks(ask, thinks), *self._says(text, thinks and thought)]

    # --- turns

    def _asks(self, text: str, thinks: bool, *, bare: bool = False) -> list[Segment]:
        begin = "<|im_start|>user" + ("" if bare else "\n")
        opened = "" if thinks else "<think>\n\n</think>\n\n"
        return [(f"{begin}{text}<|im_end|>\n<|im_start|>assistant\n{opened}", False)]

    def _says(self, text: str, thought: str | bool) -> list[Segment]:
        thinking = f"<think>\n{thought}\n</think>\n\n" if thought else ""
        return [(f"{thinking}{text}<|im_end|>", True), ("\n", False)]
