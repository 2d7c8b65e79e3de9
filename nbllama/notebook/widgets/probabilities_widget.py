"""An answer's tokens by how sure the model was; of one its alternatives, and what each would have meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.branches import Branch, Branches, said_of
from nbllama.notebook.widgets.chips import Chip, Chips, Skin
from nbllama.notebook.widgets.panel import Panel, beside, compact, facts, html, put, words
from nbllama.views import markup
from nbllama.views.palette import ALARM, INK, PAPER, SHADES, look_of, shade_of
from nbllama.views.probabilities import Probabilities, percent
from nbllama.views.view import Row, shorten

Fork = Callable[[int, int], Any]
"""(number of the token in the answer, id of the token instead) → what came of it, to be displayed."""

_BEFORE = 240
"""Characters of the answer that are shown before an alternative."""


def probabilities(view: Probabilities, fork: Fork | None = None) -> ProbabilitiesPanel:
    """Pick a token to see its alternatives, and one of these to see what it would have meant. With `fork` a button
    continues the answer from there."""
    return ProbabilitiesPanel(view, fork)


class ProbabilitiesPanel(Panel):
    view: Probabilities

    def __init__(self, view: Probabilities, fork: Fork | None = None) -> None:
        super().__init__(view)
        self._rows, self._fork = view.rows(), fork
        self._candidates: list[Row] = []
        self.at = 0
        self.chips = Chips(self, "token", self._pick)
        self.pick = ipywidgets.BoundedIntText(
            value=0,
            min=0,
            max=max(len(self._rows) - 1, 0),
            description="token",
            **compact("130px"),
        )
        self.surprising = self.button("next surprise", "the next token that had less than 50 %", self._next_surprise)
        self.bars, self.meaning = html(), html()
        self.alternatives = ipywidgets.Select(
            options=[], rows=6, description="instead", **compact("auto", max_width="520px")
        )
        self.go_on = self.button("continue from here", "the model goes on with this token instead", self._continue)
        self.branches = Branches("".join(row["piece"] for row in self._rows[:200]))
        self.on(self.pick, self._pick)
        self.on(self.alternatives, self._choose)
        self._fill()

    def _fill(self) -> None:
        if not self._rows:
            self.own(self.chips.box, self.pick, self.surprising, self.alternatives, self.go_on, self.branches.box)
            self.own(self.bars, self.meaning)
            self.fill()
            return
        if self._fork is None:
            self.own(self.go_on, self.branches.box)
        forked = [] if self._fork is None else [beside(self.go_on), self.branches.box]
        choosing = beside(self.pick, self.surprising)
        self.fill(html(_legend()), choosing, self.chips.box, self.bars, self.alternatives, self.meaning, *forked)
        self.chips.show(len(self._rows), self._chip)
        self._pick(0)

    def _chip(self, n: int) -> Chip:
        row = self._rows[n]
        p = row["p"]
        background, ink = shade_of(p) if p is not None else (PAPER, INK)
        border = "3px double #1a1a1a" if row["forced"] else "1px solid #767676"
        piece = row["piece"]
        entropy = "" if row["entropy"] is None else f", entropy {row['entropy']:.2f} bits"
        said = f"token {n}: {percent(p)}{entropy}{', forced by the grammar' if row['forced'] else ''}"
        percentage = f" {percent(p)}" if p is not None and p < 0.9 else ""
        return Chip(f"{shorten(piece, 30)}{percentage}", said, Skin(background, ink, border), piece.endswith("⏎"))

    def _pick(self, n: int) -> None:
        if self.pick.value != n:
            # Comes back here.
            self.pick.value = n
            return
        self.at = n
        self.chips.choose(n)
        self._candidates = self.view.candidates(n)
        put(self.bars, self._bars(n))
        others = [(words(_option(one)), place) for place, one in enumerate(self._candidates)]
        self.alternatives.options = others
        self.alternatives.rows = max(2, min(len(others), 8))
        self.alternatives.value = next((place for place, one in enumerate(self._candidates) if not one["chosen"]), None)
        self._choose(self.alternatives.value)

    def _next_surprise(self) -> None:
        n = len(self._rows)
        following = [(self.at + 1 + step) % n for step in range(n)]
        found = next((at for at in following if (self._rows[at]["p"] or 1.0) < 0.5), None)
        if found is None:
            put(self.meaning, markup.sentences(["No token of this answer had less than 50 %."]))
        else:
            self._pick(found)

    def _bars(self, n: int) -> str:
        """The candidates after the mask and before it."""
        row = self._rows[n]
        entropy = "not recorded" if row["entropy"] is None else f"{row['entropy']:.2f} bits"
        lines = [f"Entropy {entropy}{_in_words(row['entropy'])}."]
        if row["removed"]:
            lines.append(f"The grammar took away {percent(row['removed'])} of the probability.")
        if row["forced"]:
            lines.append("The grammar left no choice.")
        head = markup.caption(f"Token {n:,}") + markup.sentences(lines)
        if not self._candidates:
            return head + markup.sentences(["Its alternatives are not recorded."])
        masked = any(one["raw_p"] is not None for one in self._candidates)
        columns = ("token", "probability", "before the mask") if masked else ("token", "probability")
        return head + markup.html_table(columns, [_bar_line(one, masked) for one in self._candidates])

    def _choose(self, place: int | None) -> None:
        if place is None:
            put(self.meaning, "")
            self.go_on.disabled = True
            return
        one = self._candidates[place]
        self.go_on.disabled = one["chosen"] or one["forbidden"]
        put(self.meaning, self._meaning(one))

    def _meaning(self, one: Row) -> str:
        """The answer with this token in it, and what is to be said of it."""
        row = self._rows[self.at]
        before = "".join(other["piece"] for other in self._rows[max(0, self.at - _BEFORE) : self.at])[-_BEFORE:]
        following = "".join(other["piece"] for other in self._rows[self.at + 1 : self.at + 30])[:80]
        style = f"{markup.MONO};white-space:pre-wrap"
        was = markup.chip(row["piece"], look_of("user"))
        would = markup.chip(one["piece"], look_of("tools"))
        told = f'<span style="opacity:0.75">{markup.plain(following)}</span>'
        lines = [("it said", f'<span style="{style}">{markup.plain(before)}{was}{told}</span>')]
        if one["chosen"]:
            return facts(lines) + markup.sentences(["This is what was said."])
        lines.append(("it might have said", f'<span style="{style}">{markup.plain(before)}{would}</span> …'))
        return facts(lines) + markup.sentences(self._sentences(row, one))

    def _sentences(self, row: Row, one: Row) -> list[str]:
        lines = []
        if one["forbidden"]:
            lines.append("The grammar forbade it here: with it the text could not have become what was asked for.")
        elif one["p"] and row["p"]:
            times = row["p"] / one["p"]
            less = f"{times:,.1f} times less" if times >= 1 else f"{1 / times:,.1f} times more"
            lines.append(f"It was {less} probable than what was said ({percent(one['p'])} to {percent(row['p'])}).")
        special = self.view.reading.special
        known = _MARKERS.get(one["piece"].strip("·⏎").lower())
        if known:
            lines.append(f"With it the model would have {known}.")
        elif special and one["id"] in special:
            lines.append("It is a control token: no text, but a sign of the model's format.")
        return lines

    def _begun(self, at: int, id: int) -> str:
        """The answer up to a token, and another one there."""
        reading = self.view.reading
        pieces = [reading.piece(one) or b"" for one in [*reading.output_ids[:at], id]]
        return b"".join(pieces).decode(errors="replace")

    def _continue(self) -> None:
        """Asks for the branch. It takes as long as the model does."""
        place = self.alternatives.value
        if self._fork is None or place is None:
            return
        at, one = self.at, self._candidates[place]
        self.go_on.disabled, self.go_on.description = True, "continuing …"
        try:
            result = self._fork(at, one["id"])
            said = said_of(result, self._begun(at, one["id"]))
            self.branches.add(Branch(at, one["id"], one["piece"], self._rows[at]["piece"], said), result)
        finally:
            self.go_on.disabled, self.go_on.description = False, "continue from here"


_ENDS = "ended its turn here"
_MARKERS = {
    **dict.fromkeys(("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<eos>", "<end_of_turn>", "<|end|>"), _ENDS),
    "<think>": "begun to think here",
    "</think>": "ended its thinking here",
    "<tool_call>": "begun a tool call here",
    "</tool_call>": "ended the tool call here",
}


def _option(one: Row) -> str:
    said = "forbidden" if one["forbidden"] else percent(one["p"])
    return f"{shorten(one['piece'], 60)}   {said}{'   (what was said)' if one['chosen'] else ''}"


def _bar_line(one: Row, masked: bool) -> str:
    look = "user" if one["chosen"] else "template"
    chip = markup.chip(shorten(one["piece"], 40), look_of(look), more=markup.MONO)
    sign = " ✓ said" if one["chosen"] else " ✗ forbidden" if one["forbidden"] else ""
    cells = [chip + sign, _bar(0.0 if one["forbidden"] else one["p"], SHADES[4])]
    cells += [_bar(one["raw_p"], "#8a5200")] if masked else []
    return "".join(map(markup.html_cell, cells))


_WIDE = 160


def _bar(p: float | None, color: str) -> str:
    if p is None:
        return '<span style="opacity:0.8">below the others</span>'
    frame = "display:inline-block;vertical-align:middle;height:12px"
    filled = f'<span style="{frame};width:{max(round(p * _WIDE), 1)}px;background:{color}"></span>'
    rest = f'<span style="{frame};width:{_WIDE - round(p * _WIDE)}px;background:#e6e6e6"></span>'
    outer = f"display:inline-block;border:1px solid #767676;line-height:0;vertical-align:middle;background:{ALARM}"
    return f'<span style="{outer}">{filled}{rest}</span> {percent(p) if p else "0%"}'


def _in_words(entropy: float | None) -> str:
    """Bits as a number of equal choices."""
    return "" if entropy is None else f", as unsure as among {2**entropy:,.1f} equal choices"


def _legend() -> str:
    names = ("90 % and more", "60 %", "30 %", "10 %", "2 %", "less")
    inks = [shade_of(p)[1] for p in (0.95, 0.7, 0.4, 0.2, 0.05, 0.0)]
    chips = [
        f'<span style="background:{tint};color:{ink};border:1px solid #767676;padding:1px 6px">{name}</span>'
        for tint, ink, name in zip(SHADES, inks, names, strict=True)
    ]
    return f'<div style="margin:4px 0">{"".join(chips)} the darker, the more surprising; double border: forced</div>'
