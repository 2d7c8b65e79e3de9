"""When a refused request may come again. Pure: durations in, seconds out."""

from __future__ import annotations

from collections.abc import Sequence

REMEMBERED = 32
"""So many jobs are "lately"."""
LONGEST = 60.0
"""Seconds. The SDKs follow a `retry-after` up to a minute, and ignore a longer one."""


def seconds_until_turn(durations: Sequence[float], *, n_ahead: int, n_slots: int) -> float:
    """How long until a job with `n_ahead` jobs waiting before it would run, 1 to 60 seconds.

    `durations` are the seconds that jobs lately spent in their slots; while none has ended, one second is assumed."""
    average = sum(durations) / len(durations) if durations else 1.0
    return min(LONGEST, max(1.0, average * (n_ahead + 1) / n_slots))
