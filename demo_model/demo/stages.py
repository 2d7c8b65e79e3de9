"""What the demo model learns, stage by stage: copying, then everything, then also what is long."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from demo_model.demo.dialogues import COPYING, LONG, DemoMix, groups
from demo_model.packing import Encode, Groups, Pack, Packs

CONTEXT = 8192
STRETCHED = 0.1
"""Share of the packs whose texts are torn apart, so that every distance in the context has been met."""


@dataclass(frozen=True)
class Stage:
    """`share` of the schedule's tokens, in packs of at most `rows` rows."""

    name: str
    share: float
    mix: DemoMix
    rows: int


STAGES = (
    Stage("copying", 0.06, COPYING, 4096),
    Stage("everything", 0.78, DemoMix(), 4096),
    Stage("long", 0.16, LONG, 8192),
)


def groups_of(stage: Stage, *, held_out: bool = False) -> Groups:
    return partial(groups, held_out=held_out, mix=stage.mix)


class StagedPacks:
    """An endless stream of packs that goes from stage to stage, by the tokens taken, and stays in the last.

    Its place is the place in the stage's own stream, and the stage's tokens so far.
    """

    def __init__(self, encode: Encode, *, seed: int, total: int, stages: Sequence[Stage] = STAGES) -> None:
        self._encode, self._seed, self._total, self._stages = encode, seed, total, stages
        self._stage = self._tokens = 0
        self._packs = self._opened()

    def state(self) -> dict[str, int]:
        return self._packs.state() | {"stage": self._stage, "tokens": self._tokens, "total": self._total}

    def restore(self, state: dict[str, int]) -> None:
        self._stage, self._tokens, self._total = state["stage"], state["tokens"], state["total"]
        self._seed = (state["seed"] - self._stage) // len(self._stages)
        self._packs = self._opened()
        self._packs.restore({key: state[key] for key in ("seed", "windows", "taken")})

    def take(self) -> Pack:
        """The next step's rows."""
        over = self._tokens >= self._stages[self._stage].share * self._total
        if over and self._stage + 1 < len(self._stages):
            self._stage, self._tokens = self._stage + 1, 0
            self._packs = self._opened()
        place = self._packs.state()
        taken = self._packs.take()
        self._tokens += len(taken.ids)
        return stretched(taken, random.Random(f"{place} stretched"))

    def _opened(self) -> Packs:
        stage = self._stages[self._stage]
        seed = self._seed * len(self._stages) + self._stage
        return Packs(groups_of(stage), self._encode, seed=seed, rows=stage.rows, fresh_windows=True)


def stretched(whole: Pack, chance: random.Random) -> Pack:
    """Now and then the same rows, with a gap in the positions between each prefix and its branches."""
    if chance.random() >= STRETCHED:
        return whole
    positions = list(whole.positions)
    for span in whole.spans:
        if span.prefix != (0, 0):
            room = CONTEXT - 1 - positions[span.end - 1]
            gap = chance.randint(0, max(0, room))
            positions[span.start : span.end] = [place + gap for place in positions[span.start : span.end]]
    return replace(whole, positions=positions)
