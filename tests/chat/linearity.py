"""Ten times the input may take at most thirteen times as long: a ratio, so that no machine is too slow."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """`work(n)` on `size` and ten times as much. A busy machine gets several tries: square time fails them all."""
    ratios = []
    for n_runs in (1, 2, 3, 3):
        # A fixed millisecond keeps tiny times from dividing noise by noise.
        ratios.append(_seconds(work, 10 * size, n_runs) / (_seconds(work, size, n_runs) + 0.001))
        if ratios[-1] <= 13:
            return
    raise AssertionError(f"ten times the input took {ratios} times as long")


def _seconds(work: Callable[[int], object], size: int, n_runs: int) -> float:
    """The best of some runs. The collector's passes over what tests keep alive are not the code's own cost."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(n_runs):
            begun = time.process_time()
            work(size)
            best = min(best, time.process_time() - begun)
    finally:
        gc.enable()
    return best
