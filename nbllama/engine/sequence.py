"""One job's tokens and state while it is in the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllama.engine.detokenizer import Detokenizer
from nbllama.engine.jobs import Job, Outcome
from nbllama.engine.runtime import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` = prompt + generated. Of them the cells hold [0, computed); [computed, len) is still to compute.

    One pending token means that the sequence decodes, more that it is being prefilled. After a preemption the whole
    of `tokens` is pending again. `priority` is the job's, or that of whom it had to make room for; `sent_away` says
    that nobody has left since.
    """

    job: Job
    order: int
    priority: int = field(init=False)
    sent_away: bool = False
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    slot: int | None = None
    started: bool = False
    sampler: Sampler | None = None
    detokenizer: Detokenizer = field(default_factory=Detokenizer)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(self.job.prompt)
        self.priority = self.job.priority

    @property
    def standing(self) -> tuple[int, int]:
        """The higher one stays: priority, then age."""
        return (self.priority, -self.order)

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - len(self.job.prompt)

    @property
    def n_pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def decodes(self) -> bool:
        return self.n_pending == 1 and self.n_generated > 0
