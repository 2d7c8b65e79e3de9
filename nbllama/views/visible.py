"""Text of a model, a tool or a server as it may be put on a screen. Pure.

A control character would act instead of being seen: an escape sequence recolours a terminal or JupyterLab's text
output, a carriage return overwrites what stands there, an override of the writing direction shows code in an order in
which it does not run. Half a surrogate pair has no UTF-8 form: a kernel or a terminal that is to show it shows nothing.
"""

from __future__ import annotations

import re

# C0 but tab and newline, DEL, C1, what overrides, embeds or isolates the direction of others, and half characters.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# One at the end may become the first half of a line's end: left out until that is known, so a stream only grows.
_LINE_ENDS = re.compile(r"\r(?=\n)|\r\Z")


def visible(text: str) -> str:
    """The text with every character that would act replaced by one that is seen: "␛" for an escape, "[U+202E]"."""
    return _ACTING.sub(_picture, _LINE_ENDS.sub("", text))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"[U+{code:04X}]"
