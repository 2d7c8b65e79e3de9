"""What somebody may have meant who wrote a name that is none. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(wrong: str, names: Iterable[str]) -> str:
    """ "did you mean status or stop?"; empty if no name is like it."""
    found = difflib.get_close_matches(wrong, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""
