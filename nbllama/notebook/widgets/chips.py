"""Thousands of coloured chips, of which one page exists: buttons that are used again for the next page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.panel import Panel, beside, compact, html, put, words
from nbllama.views import markup
from nbllama.views.palette import INK, PAPER, Look
from nbllama.views.view import shorten

PER_PAGE = 120
"""Buttons at most. A browser lays out a page of them in a moment; a thousand made it wait."""
_CHARS = 40
_FONT = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"


@dataclass(frozen=True, slots=True)
class Skin:
    """How a chip looks. It has its own background and its own ink, for light pages and dark ones."""

    background: str
    ink: str
    border: str

    @staticmethod
    def of(look: Look) -> Skin:
        # A double line of one pixel is none.
        width = "3px" if look.border == "double" else "1px"
        return Skin(look.tint, INK, f"{width} {look.border} {look.line}")


CONTROL = Skin("#333333", PAPER, f"1px solid {PAPER}")


@dataclass(frozen=True, slots=True)
class Chip:
    """`tip` is shown where one points at it; `ends_line` breaks the line behind it."""

    text: str
    tip: str
    skin: Skin
    ends_line: bool = False


class Chips:
    """Chips 0 … n - 1, made when their page is shown. `on_pick` is called with the number of one that is clicked."""

    def __init__(self, panel: Panel, what: str, on_pick: Callable[[int], object]) -> None:
        self._panel, self._what, self._on_pick = panel, what, on_pick
        self._n, self._first, self._chosen = 0, 0, -1
        self._chip: Callable[[int], Chip] = _none
        self.buttons: list[Any] = []
        self._skins: dict[Skin, tuple[Any, Any, Any]] = {}
        self._break = ipywidgets.Box(layout=ipywidgets.Layout(width="100%", height="0", margin="0"))
        self.grid = beside(align_items="stretch", max_height="340px", overflow="auto", padding="2px")
        self.page = ipywidgets.BoundedIntText(value=1, min=1, max=1, description="page", **compact("120px"))
        self.count = html()
        self._pager = beside(
            panel.button("first", f"the first {what}", lambda: self._turn_to(1)),
            panel.button("◀", "the page before", lambda: self._turn_to(self.page.value - 1)),
            self.page,
            panel.button("▶", "the next page", lambda: self._turn_to(self.page.value + 1)),
            panel.button("last", f"the last {what}", lambda: self._turn_to(self.page.max)),
            self.count,
        )
        panel.on(self.page, lambda page: self._draw((page - 1) * PER_PAGE))
        panel.own(self._break, self._pager)
        self.box = ipywidgets.VBox([self._pager, self.grid])

    def show(self, n: int, chip: Callable[[int], Chip]) -> None:
        """Others than before; none of them is chosen."""
        self._n, self._chip, self._chosen = n, chip, -1
        pages = max(1, -(-n // PER_PAGE))
        self._pager.layout.display = "none" if pages == 1 else ""
        self.page.max = pages
        self._turn_to(1)
        self._draw(0)

    def choose(self, number: int) -> None:
        """Marks one, on whatever page it is."""
        self._chosen = number
        page = number // PER_PAGE + 1
        if page == self.page.value:
            self._draw(self._first)
        else:
            self._turn_to(page)

    def _turn_to(self, page: int) -> None:
        self.page.value = min(max(page, 1), self.page.max)

    def _draw(self, first: int) -> None:
        self._first = first
        end = min(first + PER_PAGE, self._n)
        children = []
        for place, number in enumerate(range(first, end)):
            chip = self._chip(number)
            children.append(self._dressed(place, number, chip))
            if chip.ends_line:
                children.append(self._break)
        self.grid.children = children
        last = f" of {self._n:,}"
        put(self.count, markup.plain(f"{self._what}s {first + 1:,} to {end:,}{last}" if end else f"no {self._what}"))

    def _dressed(self, place: int, number: int, chip: Chip) -> Any:
        if place == len(self.buttons):
            self.buttons.append(self._button(chip))
        button = self.buttons[place]
        style, usual, chosen = self._skin(chip.skin)
        with button.hold_sync():
            button.description, button.tooltip = words(shorten(chip.text, _CHARS)), words(chip.tip)
            button.style, button.layout = style, chosen if number == self._chosen else usual
        return button

    def _button(self, chip: Chip) -> Any:
        style, usual, _ = self._skin(chip.skin)
        button = ipywidgets.Button(style=style, layout=usual)
        button.on_click(self._panel.guarded(lambda _: self._clicked(button)))
        self._panel.own(button)
        return button

    def _clicked(self, button: Any) -> None:
        number = self._first + self.buttons.index(button)
        # One may be clicked in the browser when it is gone here already.
        if number < self._n:
            self._on_pick(number)

    def _skin(self, skin: Skin) -> tuple[Any, Any, Any]:
        """(style, layout, layout of the chosen one), shared by all chips that look so."""
        if skin not in self._skins:
            style = ipywidgets.ButtonStyle(
                button_color=skin.background, text_color=skin.ink, font_family=_FONT, font_size="13px"
            )
            layouts = [_layout(border) for border in (skin.border, _CHOSEN)]
            self._skins[skin] = (style, *layouts)
            self._panel.own(style, *layouts)
        return self._skins[skin]


_CHOSEN = "3px solid #d55e00"
"""The one border that is three pixels of one colour; the orange is seen on paper and on black."""


def _layout(border: str) -> Any:
    # A thicker border takes its room from around the chip, so that nothing moves when one is chosen.
    margin = "-1px" if border.startswith("3px") else "1px"
    return ipywidgets.Layout(
        border=border, width="auto", min_width="16px", height="auto", padding="0 4px", margin=margin, flex="0 0 auto"
    )


def _none(number: int) -> Chip:
    raise IndexError(number)
