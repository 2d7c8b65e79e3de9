"""Values that a tiny model can copy: ASCII, and not long, nor of long words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from demo_model.draws import Draws, avoided, held_out

LONGEST = 40
LONG_WORD = re.compile(r"[A-Za-z]{13}")  # coined ones of three syllables; English ones have up to 11 letters


@dataclass(frozen=True)
class SimpleDraws(Draws):
    """Draws of one split, without what is spelled in bytes or goes on for long."""

    def fresh(self, draw: Callable[[], str]) -> str:
        text = ""
        for _ in range(200):
            text = draw()
            simple = text.isascii() and len(text) <= LONGEST and not LONG_WORD.search(text)
            if simple and text.casefold() not in avoided() and held_out(text) == self.held_out:
                break
        return text
