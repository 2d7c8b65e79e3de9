"""Pieces of sentences: a number and its noun, a text that must stay short. Pure."""

from __future__ import annotations


def plural(noun: str, n: int) -> str:
    """ "call" of one, "calls" of none or several."""
    return noun if n == 1 else f"{noun}s"


def counted(n: int, noun: str) -> str:
    """ "1 call", "1,200 calls"."""
    return f"{n:,} {plural(noun, n)}"


def bounded(text: str, most: int) -> str:
    """A text of at most `most` characters, the last one an ellipsis where some are missing."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
