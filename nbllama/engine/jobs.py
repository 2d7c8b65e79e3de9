"""What crosses the thread between `answer` and the engine: jobs in, outcomes out. Reading this file is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from nbllama.engine.errors import EngineError
from nbllama.engine.guide import Guide
from nbllama.engine.sampling import SamplingSettings

FinishReason = Literal["end", "stop", "length", "context", "cancelled"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands before its first token. `position` in the queue, from 1; 0: it runs. Tokens of the prompt."""

    position: int
    prefilled: int
    total: int


@dataclass(frozen=True, slots=True)
class Started:
    """The job has a sequence; `cached` tokens of its prompt were found there."""

    cached: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Generated ids and the whole characters they complete (`text` may lag behind the ids, never split)."""

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The one good ending. `n_generated` counts every sampled token, the end token included."""

    reason: FinishReason
    n_generated: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The one bad ending."""

    error: EngineError


Outcome = Progress | Started | Tokens | Finished | Failed


@dataclass(frozen=True, slots=True)
class Job:
    """One sequence to generate. `deliver` is called from the engine thread with what happened in a step.

    The last outcome delivered is Finished or Failed, exactly one of them. `boundaries` are the prompt positions where
    a message starts: the places at which a later conversation may branch off. Higher `priority` goes first.
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
    tags: dict[str, str] = field(default_factory=dict)
