"""The parser, step by step: what it has read, where it stands, what it decided, what the grammar left it."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.event_table import event_table
from nbllama.notebook.widgets.panel import Panel, compact, facts, html, put, words
from nbllama.notebook.widgets.player import Player
from nbllama.views import markup
from nbllama.views.answer_parts import answer_offsets
from nbllama.views.calls import Calls, look_of_pieces
from nbllama.views.events import Events
from nbllama.views.palette import GOOD_LINE
from nbllama.views.probabilities import Probabilities
from nbllama.views.step_events import events_of_steps
from nbllama.views.view import Row, shorten

_EACH = 0.7
"""Seconds of a step at speed 1: long enough to read its line."""
_BEFORE, _BEHIND = 1200, 400
"""Characters of the raw text that are shown around the cursor."""
_MOST_EVENTS = 20
_MOST_TOKENS = 24


def calls(view: Calls) -> CallsPanel:
    """Step the parser forward and back over the raw text; pick a failure to see its step."""
    return CallsPanel(view)


class CallsPanel(Panel):
    view: Calls

    def __init__(self, view: Calls) -> None:
        super().__init__(view)
        self._steps = view.rows()
        self.player = Player(self, len(self._steps), _EACH * len(self._steps), self._show)
        self.where, self.text, self.state = html(), html(), html()
        self.grammar, self.events = html(), html()
        self.failures = self._failures()
        self.fill(self.failures, self.player.box, self.where, self.text, self.state, self.grammar, self.events)
        self._show(0)

    def _failures(self) -> Any:
        failures = self.view.failures
        if not failures:
            return html()
        options = [(words("⚠ " + shorten(one.sentence, 300)), n) for n, one in enumerate(failures)]
        select = ipywidgets.Select(
            options=options, value=None, rows=min(max(len(options), 2), 5), description="failures", **compact("auto"),
        )  # fmt: skip
        self.on(select, self._find)
        return select

    def _find(self, chosen: int | None) -> None:
        if chosen is None:
            return
        start = self.view.failures[chosen].start
        step = next((n for n, row in enumerate(self._steps) if row["start"] == start), 0)
        self.player.go(step + 1)
        self.failures.value = chosen

    def _show(self, place: int) -> None:
        """After so many steps; 0 is before the first."""
        if isinstance(self.failures, ipywidgets.Select):
            self.failures.value = None
        n = len(self._steps)
        row = self._steps[place - 1] if place else None
        put(self.where, f"<b>{f'step {place:,} of {n:,}' if place else f'before the first of {n:,} steps'}</b>")
        put(self.text, self._raw(row))
        put(self.state, _state(row, self._steps[place] if place < n else None))
        put(self.grammar, self._grammar(row))
        put(self.events, self._events(place))

    def _raw(self, row: Row | None) -> str:
        """What was read, what this step read, the cursor, what comes."""
        raw = self.view.raw
        start, end = (max(row["start"], 0), max(row["end"], 0)) if row else (0, 0)
        first, last = max(0, start - _BEFORE), min(len(raw), end + _BEHIND)
        dots = f"<i>… {first:,} characters …</i> " if first else ""
        rest = f" <i>… {len(raw) - last:,} characters …</i>" if last < len(raw) else ""
        now = _cut(raw[start:end])
        look = look_of_pieces(row["pieces"]) if row else look_of_pieces("")
        read = f'<span style="{markup.chip_style(look)};padding:1px 0">{_lines(now)}</span>' if now else ""
        frame = f"{markup.MONO};white-space:pre-wrap;border:1px solid #767676;border-radius:4px;padding:6px 10px"
        body = (
            f'{dots}{_lines(raw[first:start])}{read}{_CURSOR}<span style="opacity:0.72">{_lines(raw[end:last])}</span>'
        )
        return f'<div style="{frame};max-height:320px;overflow:auto">{body}{rest}</div>'

    def _grammar(self, row: Row | None) -> str:
        """Of the tokens that this step read: which were forced, and what was forbidden."""
        if row is None:
            return ""
        if not self._asked:
            return markup.sentences(["Grammar: no probabilities were recorded, which tell what it took away."])
        first, last = self._tokens_of(row)
        tokens = self._asked[first:last]
        if not tokens:
            return markup.sentences(["Grammar: no token begins in this step."])
        masked = [n for n, one in enumerate(tokens, first) if one["forced"] or one["removed"]]
        if not masked:
            return markup.sentences([f"Grammar: it left all {len(tokens):,} tokens of this step free."])
        lines = [self._masked(n) for n in masked[:_MOST_TOKENS]]
        more = [f"… {len(masked) - len(lines):,} more tokens …"] if len(masked) > len(lines) else []
        table = markup.html_table(("token", "", "taken away", "forbidden (before the mask)"), lines)
        return markup.caption("Grammar") + table + markup.sentences(more)

    def _masked(self, n: int) -> str:
        row = self._asked[n]
        forbidden = [one for one in self._probabilities.candidates(n) if one["forbidden"]]
        shown = "  ".join(f"{shorten(one['piece'], 30)} {one['raw_p']:.1%}" for one in forbidden[:5])
        removed = "" if row["removed"] is None else f"{row['removed']:.1%}"
        chip = markup.chip(shorten(row["piece"], 40), look_of_pieces("ToolArgsDelta"), more=markup.MONO)
        cells = [chip, "forced: no other was possible" if row["forced"] else "", removed, markup.plain(shown or "-")]
        return "".join(map(markup.html_cell, cells))

    def _tokens_of(self, row: Row) -> tuple[int, int]:
        return bisect_left(self._offsets, row["start"]), bisect_left(self._offsets, row["end"])

    @cached_property
    def _probabilities(self) -> Probabilities:
        return Probabilities(self.view.reading.data)

    @cached_property
    def _asked(self) -> list[Row]:
        """The probabilities of the tokens, where their places in the text are known too."""
        return self._probabilities.rows() if self._offsets else []

    @cached_property
    def _offsets(self) -> list[int]:
        return answer_offsets(self.view.reading) or []

    @cached_property
    def _events_of(self) -> list[list[int]]:
        events = [event for _, event in self.view.reading.events]
        return events_of_steps(self.view.raw, self.view.steps, events)

    @cached_property
    def _event_rows(self) -> list[Row]:
        return Events(self.view.reading.data).rows()

    def _events(self, place: int) -> str:
        """Those that came of this step."""
        if not place:
            return ""
        numbers = self._events_of[place - 1]
        if not numbers:
            return markup.sentences(["Events: none came of this step."])
        table = event_table(self._event_rows[n] for n in numbers[:_MOST_EVENTS])
        more = [f"… {len(numbers) - _MOST_EVENTS:,} more …"] if len(numbers) > _MOST_EVENTS else []
        return markup.caption("Events that came of it") + table + markup.sentences(more)


_CURSOR = '<b style="border-left:4px solid #d55e00;margin:0 2px" title="the parser is here"></b>'
_MOST_NOW = 2000


def _cut(text: str) -> str:
    return shorten(text, _MOST_NOW)


def _lines(text: str) -> str:
    return markup.plain(text).replace("\n", "⏎\n")


def _state(row: Row | None, following: Row | None) -> str:
    """The parser before and after, and what it decided in between."""
    if row is None:
        state = following["state"] if following else "-"
        return facts([("parser state", markup.plain(state))])
    after = following["state"] if following else "(the end)"
    chips = " ".join(markup.chip(piece, look_of_pieces(piece)) for piece in row["pieces"].split()[:40])
    lines = [
        ("parser state", f"{markup.plain(row['state'])} → {markup.plain(after)}"),
        (
            "decision",
            f'<b style="border-left:4px solid {GOOD_LINE};padding-left:5px">{markup.plain(row["decision"])}</b>',
        ),
        ("pieces", chips or "none"),
        ("characters", f"{row['start']:,} to {row['end']:,}" + (" (in the prompt)" if row["start"] < 0 else "")),
    ]
    return facts(lines)
