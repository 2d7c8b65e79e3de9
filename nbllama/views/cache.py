""" "Why was my prompt computed again?": two requests, where they part, what it cost, what to change."""

from __future__ import annotations

from functools import cached_property

from nbllama.views import markup
from nbllama.views.causes import Cause, causes_of
from nbllama.views.comparison import Comparison
from nbllama.views.palette import ALARM, ALARM_LINE, GOOD, GOOD_LINE, INK, LINE, Look, look_of
from nbllama.views.picture import WIDTH, Picture, seconds
from nbllama.views.reading import UNKNOWN, Reading, Record
from nbllama.views.view import Row, View, missing

_KEPT = Look("#cdeedd", "#00664a", "solid", "plain")
_AGAIN = Look("#ffd9c7", "#b03a00", "solid", "rising")
_NEW = Look("#ffffff", "#6b6b6b", "dotted", "plain")


class Cache(View):
    """`before` is the earlier request; without one only what the record itself says is shown.

    Columns: one row for each part of the later prompt: tokens, of them same as before, cached, computed."""

    name = "cache"
    title = "Cache: why was my prompt computed again?"
    columns = ("part", "origin", "message", "block", "start", "tokens", "same", "cached", "computed")

    def __init__(self, after: Record, before: Record | None = None) -> None:
        self.after = Reading(after)
        self.comparison = None if before is None else Comparison(before, after)

    @cached_property
    def causes(self) -> list[Cause]:
        """What explains it, the engine's part first; empty without an earlier request or where tokens are missing."""
        return causes_of(self.comparison) if self.comparison and self._comparable else []

    def rows(self) -> list[Row]:
        cached = self.after.cached_tokens
        origins = self.after.prompt_origins or [UNKNOWN] * len(self.after.prompt_ids)
        shared = self.comparison.shared if self.comparison else None
        rows: list[Row] = []
        start = 0
        for index in range(1, len(origins) + 1):
            if index < len(origins) and origins[index] == origins[start]:
                continue
            origin, n = origins[start], index - start
            n_cached = min(max(cached - start, 0), n)
            rows.append({"part": len(rows), "origin": origin.kind, "message": origin.message, "block": origin.block})
            same = None if shared is None else min(max(shared - start, 0), n)
            rows[-1] |= {"start": start, "tokens": n, "same": same, "cached": n_cached, "computed": n - n_cached}
            start = index
        return rows

    def summary(self) -> list[str]:
        n, cached = len(self.after.prompt_ids), self.after.cached_tokens
        if not n:
            return [missing("the prompt's tokens") + "."]
        lines = [f"{cached:,} of {n:,} tokens of the prompt came from the cache, {n - cached:,} were computed."]
        lines += self._engine_says()
        if self.comparison is None:
            return [*lines, "There is no earlier request to compare with."]
        if not self._comparable:
            return [*lines, missing("the earlier request's tokens") + "."]
        return [*lines, *self._parted(), *(line for cause in self.causes for line in (cause.sentence, cause.advice))]

    def html(self) -> str:
        comparison = self.comparison
        shown = self.summary()
        if comparison is None or not self.causes:
            table = markup.table(self.columns, self.rows())
            return markup.static(markup.heading(self.title) + markup.sentences(shown) + table)
        told = {line for cause in self.causes for line in (cause.sentence, cause.advice)}
        parts = [markup.heading(self.title)]
        for cause in self.causes:
            parts.append(markup.notice(cause.sentence, good=cause.name == "none"))
            if cause.name != "none":
                advice = f"<b>What to change:</b> {markup.plain(cause.advice)}"
                parts.append(f'<div style="margin:2px 0 6px 16px">{advice}</div>')
        parts += [markup.sentences(line for line in shown if line not in told), _bar(comparison)]
        if comparison.shared < len(self.after.prompt_ids) and (not comparison.goes_on or comparison.in_answer):
            parts += [markup.caption("Where they part"), _parting(comparison)]
        parts += [markup.caption("The later prompt, part by part"), markup.table(self.columns, self.rows())]
        return markup.static("".join(parts))

    @property
    def _comparable(self) -> bool:
        comparison = self.comparison
        return bool(comparison and comparison.before.prompt_ids and comparison.after.prompt_ids)

    def _parted(self) -> list[str]:
        assert self.comparison is not None
        comparison = self.comparison
        lines = []
        if comparison.goes_on and not comparison.in_answer:
            lines.append(f"What is new begins at token {comparison.shared:,}.")
        elif comparison.shared < len(self.after.prompt_ids):
            lines.append(f"The first token that differs is {comparison.shared:,}, in {comparison.where}.")
        if comparison.lost:
            time = comparison.seconds_lost
            cost = missing("the time that took") if time is None else f"about {seconds(time)}"
            lines.append(f"Computed a second time: {comparison.lost:,} tokens ({cost}).")
        return lines

    def _engine_says(self) -> list[str]:
        reuse = self.after.mapping("reuse")
        lines = [f"They came from: {reuse['source']}."] if reuse.get("source") not in (None, "none") else []
        return [*lines, f"Engine: {reuse['reason']}"] if reuse.get("reason") else lines


def _bar(comparison: Comparison) -> str:
    """The later prompt from its first to its last token: kept, computed again, new."""
    n, cached = len(comparison.after.prompt_ids), comparison.cached
    again = min(comparison.lost, n - cached)
    picture, scale, left = Picture(96), (WIDTH - 20) / max(n, 1), 10.0
    for count, look in ((cached, _KEPT), (again, _AGAIN), (n - cached - again, _NEW)):
        if count > 0:
            picture.bar(left, 26, count * scale, 28, look)
        left += count * scale
    at = 10 + comparison.shared * scale
    picture.line(at, 20, at, 60, INK, 2)
    said = f"▼ {'new from' if comparison.goes_on and not comparison.in_answer else 'first difference:'} token "
    said += f"{comparison.shared:,}"
    picture.words(min(max(at, 90), WIDTH - 110), 15, said, anchor="middle", size=12)
    left = 10
    for count, name, look in (
        (cached, "kept", _KEPT),
        (again, "computed again", _AGAIN),
        (n - cached - again, "new", _NEW),
    ):
        picture.bar(left, 72, 14, 14, look)
        picture.words(left + 19, 84, f"{name}: {count:,}", size=12)
        left += 50 + 8 * len(f"{name}: {count:,}")
    picture.line(10, 54, WIDTH - 10, 54, LINE)
    return picture.html(f"Of {n} tokens {cached} were kept, {again} computed again, {n - cached - again} are new")


def _parting(comparison: Comparison) -> str:
    same, before, after = comparison.excerpts
    origins = comparison.origins
    lines = []
    for name, origin, text, tint, line in (
        ("before", origins[0], before, ALARM, ALARM_LINE),
        ("now", origins[1], after, GOOD, GOOD_LINE),
    ):
        mark = f"background:{tint};color:{INK};border-bottom:3px solid {line}"
        whole = f'{_shown(same)}<span style="{mark}">{_shown(text) or "⟨end⟩"}</span>'
        who = markup.chip(origin.label, look_of(origin.kind), more="white-space:nowrap") if origin else ""
        style = f"{markup.MONO};white-space:pre-wrap"
        cells = (f"<b>{name}</b>", who, f'<div style="{style}">{whole}</div>')
        lines.append("".join(map(markup.html_cell, cells)))
    return markup.html_table(("", "written by", "text"), lines)


def _shown(text: str) -> str:
    return markup.plain(text).replace("\n", "⏎<br>")
