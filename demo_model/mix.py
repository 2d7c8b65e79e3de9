"""How much there is of what."""

from __future__ import annotations

from dataclasses import dataclass


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


USUAL = Mix()
