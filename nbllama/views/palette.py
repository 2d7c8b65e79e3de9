"""Colours that stay apart for colour-blind eyes (tints of Okabe and Ito's eight), in grey, and on a bad projector.

Each comes with a border and a hatching, and never without its name beside it. A chip has its own background and its own
text colour, so that it reads the same on a light and on a dark page.
"""

from __future__ import annotations

from dataclasses import dataclass

INK = "#1a1a1a"
PAPER = "#ffffff"
LINE = "#767676"
ALARM = "#ffd9c7"
ALARM_LINE = "#b03a00"
GOOD = "#cdeedd"
GOOD_LINE = "#00664a"


@dataclass(frozen=True, slots=True)
class Look:
    """`tint` is behind dark text, `line` draws its border; `hatching` is a name of `picture.HATCHINGS`."""

    tint: str
    line: str
    border: str
    hatching: str


_LOOKS = {
    "template": Look("#e6e6e6", "#6b6b6b", "solid", "plain"),
    "system": Look("#cfe3f7", "#005c94", "solid", "rising"),
    "tools": Look("#fde3b3", "#8a5200", "dashed", "dots"),
    "user": Look("#cdeedd", "#00664a", "solid", "falling"),
    "assistant": Look("#f5d6e8", "#8f3468", "dotted", "level"),
    "tool_result": Look("#fff3a8", "#6e6000", "double", "upright"),
    "prefill": Look("#e6d9f5", "#5f3f94", "dashed", "crossed"),
    "answer": Look("#ffffff", "#1a1a1a", "solid", "plain"),
    "answer: thinking": Look("#e6d9f5", "#5f3f94", "dotted", "crossed"),
    "answer: text": Look("#ffffff", "#1a1a1a", "solid", "plain"),
    "answer: tool call": Look("#fde3b3", "#8a5200", "double", "dots"),
    "answer: marker": Look("#e6e6e6", "#6b6b6b", "solid", "plain"),
}
_OTHER = Look("#f2f2f2", "#6b6b6b", "dotted", "plain")


def look_of(kind: str) -> Look:
    """The look of an origin, or of a part of the answer."""
    return _LOOKS.get(kind, _OTHER)


SHADES = ("#ffffff", "#d9e6f2", "#b5d0e8", "#7caad2", "#24608f", "#0b2f4d")
"""From certain to surprising; their lightness alone says which."""


def shade_of(probability: float) -> tuple[str, str]:
    """(background, text colour) for a probability from 0 to 1."""
    place = next((i for i, least in enumerate((0.9, 0.6, 0.3, 0.1, 0.02)) if probability >= least), 5)
    return SHADES[place], INK if place < 4 else PAPER
