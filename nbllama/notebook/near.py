"""What somebody may have meant who wrote a name that is none. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(wrong: str, names: Iterable[str], *, most: int = 3) -> str:
    """ "did you mean status or stop?", with `most` names at most; empty if no name is like it."""
    found = difflib.get_close_matches(wrong, list(names), n=most, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""


def near_variable(wrong: str, variables: Iterable[str]) -> str:
    """The same among the user's variables, without IPython's own."""
    return near(wrong, [name for name in variables if not name.startswith("_")])
