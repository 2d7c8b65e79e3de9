"""Pictures: SVG made here, shown as an image with its meaning in words.

An untrusted notebook takes `<svg>` out and leaves an image whose data is in the page. The picture brings its own paper:
inside an image nothing knows whether the page is light or dark.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from nbllama.views.palette import INK, LINE, PAPER, Look
from nbllama.views.visible import visible

WIDTH = 900
_FONT = "font-family='Helvetica,Arial,sans-serif'"

HATCHINGS = {
    "plain": "",
    "rising": "<path d='M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4' {}/>",
    "falling": "<path d='M-2,6 l4,4 M0,0 l8,8 M6,-2 l4,4' {}/>",
    "level": "<path d='M0,4 h8' {}/>",
    "upright": "<path d='M4,0 v8' {}/>",
    "crossed": "<path d='M0,4 h8 M4,0 v8' {}/>",
    "dots": "<circle cx='4' cy='4' r='1.6' fill='LINE' stroke='none'/>",
}


class Picture:
    """Collects shapes. Lengths in pixels of a picture `WIDTH` wide, which is shrunk to the page."""

    def __init__(self, height: float) -> None:
        self.height = height
        self._shapes: list[str] = []
        self._patterns: dict[str, str] = {}

    def bar(self, x: float, y: float, width: float, height: float, look: Look) -> None:
        """A filled and hatched rectangle; never thinner than can be seen."""
        self._shapes.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 1.5):.1f}' height='{height:.1f}' "
            f"fill='{self._fill(look)}' stroke='{look.line}' stroke-width='1'/>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = LINE, width: float = 1) -> None:
        self._shapes.append(
            f"<path d='M{x1:.1f},{y1:.1f} L{x2:.1f},{y2:.1f}' stroke='{color}' stroke-width='{width}' fill='none'/>"
        )

    def ticks(self, xs: Sequence[float], top: float, bottom: float) -> None:
        """Upright lines, in one shape: a picture of thousands stays small."""
        if xs:
            lines = "".join(f"M{x:.1f},{top:g}V{bottom:g}" for x in xs)
            self._shapes.append(f"<path d='{lines}' stroke='{INK}' stroke-width='1.2' fill='none'/>")

    def dot(self, x: float, y: float, color: str = INK) -> None:
        self._shapes.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='{color}'/>")

    def words(
        self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, bold: bool = False
    ) -> None:
        weight = " font-weight='bold'" if bold else ""
        self._shapes.append(
            f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}'{weight} "
            f"fill='{INK}'>{escape(visible(text))}</text>"
        )

    def svg(self) -> str:
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {self.height:g}' width='{WIDTH}' "
            f"height='{self.height:g}' {_FONT}><defs>{''.join(self._patterns.values())}</defs>"
            f"<rect width='{WIDTH}' height='{self.height:g}' rx='6' fill='{PAPER}'/>{''.join(self._shapes)}</svg>"
        )

    def html(self, meaning: str) -> str:
        """The image; `meaning` is read to those who do not see it."""
        data = base64.b64encode(self.svg().encode(errors="replace")).decode()
        return (
            f'<img alt="{escape(visible(meaning))}" src="data:image/svg+xml;base64,{data}" '
            'style="max-width:100%;border:1px solid #767676;border-radius:6px;margin:4px 0">'
        )

    def _fill(self, look: Look) -> str:
        marks = HATCHINGS[look.hatching]
        if not marks:
            return look.tint
        name = f"{look.hatching}{look.line[1:]}"
        drawn = marks.replace("LINE", look.line).format(f"stroke='{look.line}' stroke-width='1.2' fill='none'")
        self._patterns[name] = (
            f"<pattern id='{name}' width='8' height='8' patternUnits='userSpaceOnUse'>"
            f"<rect width='8' height='8' fill='{look.tint}'/>{drawn}</pattern>"
        )
        return f"url(#{name})"


def seconds(value: float) -> str:
    """A time as people say it: 340 µs, 12.3 ms, 1.24 s."""
    if abs(value) < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if abs(value) < 0.9995 else f"{value:,.2f} s"


def round_step(longest: float, most: int = 8) -> float:
    """A round distance of marks on an axis of length `longest`, of which there are at most `most`."""
    step = 1e-6
    while longest / step > most:
        for factor in (1, 2, 5):
            if longest / (step * factor) <= most:
                return step * factor
        step *= 10
    return step
