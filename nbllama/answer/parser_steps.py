"""A parser's decisions as rows of a record: where in the answer, in which state, what was decided, what came of it."""

from __future__ import annotations

from typing import Any

from nbllama.chat.explain import Step

MAX_STEPS = 2000
"""Steps that one record keeps: a model that writes nothing but broken markers makes one a character."""


class ParserSteps:
    """Call it with each step. Positions become those of the answer: what the prompt had begun of it lies below 0.

    Neighbours that say the same are one row, so that text is one row however many tokens it took."""

    def __init__(self, tail: str) -> None:
        self._start = len(tail)
        self.rows: list[dict[str, Any]] = []
        self.n_left_out = 0

    def __call__(self, step: Step) -> None:
        start, end = step.start - self._start, step.end - self._start
        last = self.rows[-1] if self.rows else None
        if last and (last["state"], last["decision"], last["end"]) == (step.state, step.decision, start):
            last["end"] = end
        elif len(self.rows) < MAX_STEPS:
            last = {"start": start, "end": end, "state": step.state, "decision": step.decision, "pieces": []}
            self.rows.append(last)
        else:
            self.n_left_out += 1
            return
        for piece in step.pieces:
            name = type(piece).__name__
            if name not in last["pieces"]:
                last["pieces"].append(name)
