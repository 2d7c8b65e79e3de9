"""How fast a cassette is played."""

from __future__ import annotations

import math

from nbllama.wire.cassette_file import CassetteError


def speed(text: str) -> float:
    """1 keeps the recorded times, 4 is four times as fast, 0 is at once. Raises CassetteError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise CassetteError(f"speed {text}: 1 is as recorded, 4 four times as fast, 0 at once")
    return value
