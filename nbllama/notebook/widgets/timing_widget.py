"""Where the time went, by phase and by token, with a switch between them."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.panel import Panel, beside, compact, html, put, words
from nbllama.views import markup
from nbllama.views.palette import INK, look_of
from nbllama.views.picture import WIDTH, Picture, seconds
from nbllama.views.timing import Timing
from nbllama.views.tokens import shown
from nbllama.views.view import Row, shorten

PHASES, TOKENS = "per phase", "per token"
MOST_REQUESTS = 40
MOST_TOKENS = 200
"""Bars in one picture."""
_PHASES = (
    ("queue", "waiting for a place", look_of("template")),
    ("prefill", "computing the prompt", look_of("system")),
    ("decode", "writing the answer", look_of("user")),
)


def timing(view: Timing) -> TimingPanel:
    """Bars: the phases of each request, or the gap before each token of one; pick a token to read its bar."""
    return TimingPanel(view)


class TimingPanel(Panel):
    view: Timing

    def __init__(self, view: Timing) -> None:
        super().__init__(view)
        self._rows = view.rows()
        self._token_rows: dict[int, list[Row]] = {}
        self.switch = ipywidgets.ToggleButtons(options=[PHASES, TOKENS], value=PHASES)
        options = [(words(f"{n + 1}. {_name(row)}"), n) for n, row in enumerate(self._rows)]
        self.request = ipywidgets.Dropdown(
            options=options,
            value=0 if options else None,
            description="request",
            **compact("360px"),
        )
        self.token = ipywidgets.IntSlider(
            value=0, min=0, max=0, description="token", **compact("auto", flex="1 1 240px")
        )
        self.bars, self.said = html(), html()
        self.on(self.switch, lambda _: self._show())
        self.on(self.request, lambda _: self._show())
        self.on(self.token, lambda _: self._show())
        self._choices = beside(self.request, self.token)
        self.fill(self.switch, self._choices, self.bars, self.said)
        self._show()

    def _show(self) -> None:
        per_token = self.switch.value == TOKENS
        self.token.layout.display = "" if per_token else "none"
        self.request.layout.display = "none" if len(self._rows) < 2 else ""
        if not self._rows:
            put(self.bars, markup.sentences(["There is no request."]))
        elif per_token:
            self._per_token(self.request.value)
        else:
            self._per_phase(self.request.value)

    def _per_phase(self, chosen: int) -> None:
        first = max(0, min(chosen - MOST_REQUESTS // 2, len(self._rows) - MOST_REQUESTS))
        shown = self._rows[first : first + MOST_REQUESTS]
        put(self.bars, _legend() + _phases(shown, chosen - first, first))
        put(self.said, _phase_table(self._rows[chosen]))

    def _per_token(self, chosen: int) -> None:
        gaps = self._gaps(chosen)
        if not gaps:
            put(self.bars, markup.sentences(["The times of this request's tokens are not recorded."]))
            put(self.said, "")
            return
        self.token.max = len(gaps) - 1
        at = min(self.token.value, len(gaps) - 1)
        first = at // MOST_TOKENS * MOST_TOKENS
        put(self.bars, _gaps(gaps[first : first + MOST_TOKENS], at - first, first, len(gaps)))
        put(self.said, self._token(chosen, at, gaps))

    def _gaps(self, chosen: int) -> Sequence[Row]:
        """The tokens of one request; the gap of its first is the time until it came."""
        if chosen not in self._token_rows:
            rows = Timing(self.view.readings[chosen].data).token_rows()
            self._token_rows[chosen] = [
                one | {"gap": one["time"] if one["gap"] is None else one["gap"]} for one in rows
            ]
        return self._token_rows[chosen]

    def _token(self, chosen: int, at: int, gaps: Sequence[Row]) -> str:
        reading, one = self.view.readings[chosen], gaps[at]
        piece = None if at in reading.hidden[1] else reading.piece(reading.output_ids[at])
        text = "not recorded" if piece is None else shorten(shown(piece), 80)
        pace = (
            f", {at / (one['time'] - gaps[0]['time']):,.1f} tokens a second so far"
            if at and one["time"] > gaps[0]["time"]
            else ""
        )
        after = "after the request was accepted" if not at else "after the token before it"
        said = f"Token {at:,} came at {seconds(one['time'])}, {seconds(one['gap'])} {after}{pace}."
        chip = markup.chip(text, look_of("answer"), more=markup.MONO)
        return f"<div>{chip} {markup.plain(said)}</div>"


def _name(row: Row) -> str:
    total = "" if row["total"] is None else f", {seconds(row['total'])}"
    return shorten(f"{row['id'] or 'request'}{total}", 60)


def _legend() -> str:
    chips = " ".join(markup.chip(meaning, look) for _, meaning, look in _PHASES)
    return f'<div style="margin:4px 0">{chips} {markup.chip("everything else", look_of("answer"))}</div>'


_BAR, _LEFT = 26, 60


def _phases(rows: Sequence[Row], chosen: int, first: int) -> str:
    longest = max((row["total"] or 0.0 for row in rows), default=0.0)
    if not longest:
        return markup.sentences(["No times are recorded."])
    picture, scale = Picture(len(rows) * _BAR + 14), (WIDTH - _LEFT - 100) / longest
    for n, one in enumerate(rows):
        _phase_bar(picture, one, f"{'▶ ' if n == chosen else ''}{first + n + 1}", 8 + n * _BAR, scale)
    return picture.html(f"Bars of {len(rows)} requests by phase, the longest {seconds(longest)}")


def _phase_bar(picture: Picture, row: Row, name: str, top: float, scale: float) -> None:
    picture.words(_LEFT - 8, top + 14, name, anchor="end", size=12, bold=name.startswith("▶"))
    total, left = row["total"] or 0.0, float(_LEFT)
    known = [(row[key] or 0.0, look) for key, _, look in _PHASES]
    rest = max(total - sum(length for length, _ in known), 0.0)
    for length, look in [*known, (rest, look_of("answer"))]:
        if length * scale > 0.3:
            picture.bar(left, top, length * scale, _BAR - 8, look)
        left += length * scale
    picture.words(_LEFT + total * scale + 6, top + 14, seconds(total) if row["total"] is not None else "?", size=12)


def _phase_table(row: Row) -> str:
    total = row["total"]
    known = [(row[key], meaning, look) for key, meaning, look in _PHASES]
    rest = None if total is None else max(total - sum(value or 0.0 for value, _, _ in known), 0.0)
    lines = []
    for value, meaning, look in [*known, (rest, "everything else", look_of("answer"))]:
        share = "" if value is None or not total else f"{value / total:.0%}"
        said = "not recorded" if value is None else seconds(value)
        lines.append("".join(map(markup.html_cell, (markup.chip(meaning, look), said, share))))
    return markup.html_table(("phase", "time", "share"), lines)


_HIGH, _BOTTOM = 120, 140


def _gaps(rows: Sequence[Row], chosen: int, first: int, n: int) -> str:
    # The first token waits for the whole prompt: drawn to its scale the others would be flat.
    inner = [row["gap"] for number, row in enumerate(rows, first) if number]
    longest = max([*inner, 1e-9])
    picture, width = Picture(_BOTTOM + 30), (WIDTH - 100) / len(rows)
    for place, one in enumerate(rows):
        height = min(max(one["gap"], 0.0) / longest, 1.15) * _HIGH
        left = 80 + place * width
        picture.bar(
            left, _BOTTOM - height, max(width - 1.5, 1), height, look_of("tools" if place == chosen else "user")
        )
        if place == chosen:
            picture.words(left + width / 2, _BOTTOM + 14, "▲", anchor="middle", size=12)
    picture.line(80, _BOTTOM, WIDTH - 20, _BOTTOM, INK)
    picture.words(72, _BOTTOM - _HIGH + 5, seconds(longest), anchor="end", size=11)
    picture.words(72, _BOTTOM, "0", anchor="end", size=11)
    last = first + len(rows) - 1
    picture.words(80, _BOTTOM + 26, f"token {first}", size=11)
    picture.words(WIDTH - 20, _BOTTOM + 26, f"token {last} of {n}", anchor="end", size=11)
    cut = (
        " The first token's bar is cut off: it waited for the prompt." if not first and rows[0]["gap"] > longest else ""
    )
    return picture.html(f"Gap before each token, {first} to {last}") + markup.sentences(
        [f"Time before each token.{cut}"]
    )
