"""When a refused request may come again."""

from __future__ import annotations

import pytest

from nbllama.engine.retry_after import LONGEST, seconds_until_turn


@pytest.mark.parametrize(
    ("durations", "n_ahead", "n_slots", "seconds"),
    [
        # Four slots that are each taken for 8 seconds: one is free every 2 seconds.
        ([8.0], 0, 4, 2.0),
        ([8.0], 3, 4, 8.0),
        ([4.0, 12.0], 7, 4, 16.0),
        # One slot, and nobody known to have ended.
        ([], 4, 1, 5.0),
        # Never "at once", never longer than a client would wait.
        ([0.001] * 32, 5, 2, 1.0),
        ([600.0], 255, 1, LONGEST),
    ],
)
def test_it_is_the_time_until_ones_turn(durations: list[float], n_ahead: int, n_slots: int, seconds: float) -> None:
    assert seconds_until_turn(durations, n_ahead=n_ahead, n_slots=n_slots) == seconds
