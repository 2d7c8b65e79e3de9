"""What crosses the thread between `answer` and the engine: jobs in, outcomes out. Reading this file is enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nbllama.engine.errors import EngineError
from nbllama.engine.guide import Guide
from nbllama.engine.likelihood import Likelihood
from nbllama.engine.reuse import Reuse
from nbllama.engine.sampling import SamplingSettings

FinishReason = Literal["end", "stop", "length", "context", "cancelled"]


class Work(NamedTuple):
    """What was computed for a job so far. What a preemption has computed again is prefill, too."""

    prefill_tokens: int = 0
    prefill_steps: int = 0
    decode_steps: int = 0


NO_WORK = Work()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands before its first token. `position` in the queue, from 1; 0: it runs. Tokens of the prompt.

    `at` here and below: when it happened, as `time.perf_counter` tells; it is delivered later."""

    position: int
    prefilled: int
    total: int
    at: float = field(default_factory=time.perf_counter, compare=False)


@dataclass(frozen=True, slots=True)
class Started:
    """The job has a sequence; `cached` tokens of its prompt were found there, and `reuse` says why not more."""

    cached: int
    reuse: Reuse | None = field(default=None, compare=False)
    at: float = field(default_factory=time.perf_counter, compare=False)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Generated ids and the whole characters they complete (`text` may lag behind the ids, never split).

    `likelihoods`, one for each id, only where the job asks for them."""

    ids: tuple[int, ...]
    text: str
    likelihoods: tuple[Likelihood, ...] = field(default=(), compare=False)
    work: Work = field(default=NO_WORK, compare=False)
    at: float = field(default_factory=time.perf_counter, compare=False)


@dataclass(frozen=True, slots=True)
class Reread:
    """What the model thought of tokens that a guide had forced: known when it has read what they follow.

    The first is the job's `index`-th generated token."""

    index: int
    likelihoods: tuple[Likelihood, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The one good ending. `n_generated` counts every sampled token, the end token included."""

    reason: FinishReason
    n_generated: int
    work: Work = field(default=NO_WORK, compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The one bad ending."""

    error: EngineError


Outcome = Progress | Started | Tokens | Reread | Finished | Failed


@dataclass(frozen=True, slots=True)
class Job:
    """One sequence to generate. `deliver` is called from the engine thread with what happened in a step.

    The last outcome delivered is Finished or Failed, exactly one of them. `boundaries` are the prompt positions where
    a message starts: the places at which a later conversation may branch off. Higher `priority` goes first.
    `alternatives`: so many are told with each token, and what the model thought of them; 0: nothing of it is computed.
    The last `begun` tokens of the prompt belong to the answer already: a character that they left unfinished is ended.
    """

    id: str
    client: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingSettings
    deliver: Callable[[list[Outcome]], None]
    guide: Guide | None = None
    boundaries: tuple[int, ...] = ()
    priority: int = 0
    alternatives: int = 0
    begun: int = 0
    tags: dict[str, str] = field(default_factory=dict)
