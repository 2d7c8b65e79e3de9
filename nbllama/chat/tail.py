"""The end of a prompt that belongs to the answer already."""

from __future__ import annotations

import re

from nbllama.chat.format import Format
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import TextDelta, ThinkDelta

_WINDOW = 400


def answer_begun(format: Format, text: str, *, first: bool = False) -> str:
    """What follows the header of the last answer in `text` (of the `first`); all of `text` if it has none.

    The header may be cut or be followed by other space than the template's: what counts is where its text ends.
    """
    header = format.header
    for start in _starts(header):
        for core in (header[start:], header[start:].strip()):
            found = (text.find(core) if first else text.rfind(core)) if core.strip() else -1
            if found >= 0:
                return text[found + len(core) :]
    return text


def tail_of(format: Format, prompt: str) -> str:
    """What a whole prompt has of the answer: nothing but markers, or it is something else's."""
    window = prompt[-_WINDOW:]
    begun = answer_begun(format, window)
    if begun != window and _is_markers(format, begun):
        return begun
    think = format.think
    if think is None or not think.close:
        return ""
    closed = rf"(?:{re.escape(think.open)}\s*)?{re.escape(think.close)}\s*\Z"
    found = re.search(rf"{closed}|{re.escape(think.open)}\s*\Z" if think.open else closed, window)
    return found.group() if found else ""


def _is_markers(format: Format, text: str) -> bool:
    begins_thinking = format.think is not None and not format.think.open
    pieces = StreamParser(format, "", {}).feed(text)
    return not any(isinstance(p, TextDelta) or (isinstance(p, ThinkDelta) and not begins_thinking) for p in pieces)


def _starts(header: str) -> list[int]:
    """Where a header may be cut: it begins with the end of the turn before, and that may be missing."""
    return [0, *(place for place in range(1, len(header)) if header[place] in "<[" or header[place - 1] in ">]\n")]
