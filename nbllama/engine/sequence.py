"""One job's tokens and state while it is in the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllama.engine.detokenizer import Detokenizer
from nbllama.engine.jobs import NO_WORK, Job, Outcome, Work
from nbllama.engine.runtime import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` = prompt + generated. Of them the cells hold [0, computed); [computed, len) is still to compute.

    One pending token means that the sequence decodes, more that it is being prefilled. After a preemption the whole
    of `tokens` is pending again. `priority` is the job's, or that of whom it had to make room for; `sent_away` says
    that nobody has left since. `reached`: so many of `tokens` were computed at some time. `unread` are the positions of
    forced tokens whose likelihood is known once what stands before them is computed.
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
    work: Work = NO_WORK
    reached: int = 0
    unread: range = range(0)

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

    def count(self, start: int) -> None:
        """Books a step that has computed [start, computed)."""
        n_prefill = min(self.computed, max(len(self.job.prompt), self.reached)) - start
        tokens, prefills, decodes = self.work
        if n_prefill > 0:
            self.work = Work(tokens + n_prefill, prefills + 1, decodes)
        else:
            self.work = Work(tokens, prefills, decodes + 1)
        self.reached = max(self.reached, self.computed)
