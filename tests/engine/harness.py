"""Drives an engine loop as `answer` does, and collects what each job was told."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Progress, Started, Tokens
from nbllama.engine.loop import EngineLoop
from nbllama.engine.sampling import SamplingSettings

GREEDY = SamplingSettings(temperature=0.0)


@dataclass
class Collected:
    """Everything one job was told, and whether it has ended."""

    outcomes: list[Outcome] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    first_token: threading.Event = field(default_factory=threading.Event)

    def deliver(self, outcomes: list[Outcome]) -> None:
        self.outcomes += outcomes
        if any(isinstance(outcome, Tokens) for outcome in outcomes):
            self.first_token.set()
        if isinstance(outcomes[-1], Finished | Failed):
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(outcome.text for outcome in self.outcomes if isinstance(outcome, Tokens))

    @property
    def ids(self) -> list[int]:
        return [id for outcome in self.outcomes if isinstance(outcome, Tokens) for id in outcome.ids]

    @property
    def cached(self) -> int:
        return next(outcome.cached for outcome in self.outcomes if isinstance(outcome, Started))

    @property
    def ending(self) -> Finished | Failed:
        """The one terminal outcome; fails the test if there is another number of them or something after it."""
        terminal = [outcome for outcome in self.outcomes if isinstance(outcome, Finished | Failed)]
        assert len(terminal) == 1, f"{len(terminal)} endings in {self.outcomes}"
        assert self.outcomes[-1] is terminal[0]
        return terminal[0]

    @property
    def progress(self) -> list[Progress]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Progress)]


def submit(loop: EngineLoop, id: str, prompt: list[int], *, max_tokens: int = 64, **fields: object) -> Collected:
    collected = Collected()
    job = Job(id, "local", tuple(prompt), max_tokens, GREEDY, collected.deliver, **fields)  # type: ignore[arg-type]
    loop.submit("model", job)
    return collected


def wait(*jobs: Collected, timeout: float = 60.0) -> None:
    for job in jobs:
        assert job.ended.wait(timeout), f"no ending after {timeout} s: {job.outcomes[-3:]}"
