"""How sure the model was of each token, what else it might have said, and what a grammar took away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nbllama.views import markup
from nbllama.views.palette import INK, SHADES, shade_of
from nbllama.views.reading import Reading, Record, number
from nbllama.views.tokens import shown
from nbllama.views.view import Row, View, ends, left_out, missing, shorten

MOST_CHIPS = 1000
_HARDEST = 12
_MOST_EXPONENT = 100.0


class Probabilities(View):
    """Columns: p from 0 to 1, at temperature 1 and behind a grammar's mask; entropy in bits;
    raw_p and removed where a grammar masked."""

    name = "probabilities"
    title = "Probabilities"
    columns = (
        *("i", "id", "piece", "p", "logprob", "rank", "entropy", "top", "raw_p", "raw_top", "removed", "forced"),
    )

    def __init__(self, record: Record) -> None:
        self.reading = Reading(record)

    @cached_property
    def _rows(self) -> list[Row]:
        reading, asked = self.reading, self.reading.mappings("probabilities")
        if len(asked) > len(reading.output_ids):
            return []
        hidden = reading.hidden[1]
        # Of a long answer only the first ones are kept; the record's warnings say so.
        return [
            self._row(i, id, one, hidden=i in hidden)
            for i, (id, one) in enumerate(zip(reading.output_ids, asked, strict=False))
        ]

    def rows(self) -> list[Row]:
        return list(self._rows)

    def alternatives(self) -> list[Row]:
        """One row for each candidate of each token: i, rank, id, piece, p, chosen."""
        rows = []
        for i, (row, one) in enumerate(zip(self._rows, self.reading.mappings("probabilities"), strict=False)):
            # Of a covered token its candidates would say as much as it would.
            for rank, (id, logprob) in enumerate([] if row["id"] is None else _pairs(one.get("top")), 1):
                chosen = id == self.reading.output_ids[i]
                rows.append({"i": i, "rank": rank, "id": id, "piece": self._piece(id), "p": _p(logprob)})
                rows[-1]["chosen"] = chosen
        return rows

    def summary(self) -> list[str]:
        rows = self._rows
        if not rows:
            asked = "they are only kept when the request asks for them"
            return [missing("probabilities") + f" ({asked})."]
        known = [row["p"] for row in rows if row["p"] is not None]
        n = len(self.reading.output_ids)
        lines = [f"{len(rows):,} tokens." if len(rows) == n else f"The first {len(rows):,} of {n:,} tokens."]
        if known:
            sure = sum(p >= 0.9 for p in known)
            first = sum(row["rank"] == 1 for row in rows)
            lines.append(f"{sure:,} were nearly certain (90 % and more), {first:,} were the most probable one.")
            logprobs = [min(row["logprob"], 0.0) for row in rows if row["logprob"] is not None]
            lines.append(f"Perplexity: {math.exp(min(-sum(logprobs) / len(logprobs), _MOST_EXPONENT)):,.2f}.")
        forced = sum(bool(row["forced"]) for row in rows)
        masked = sum((row["removed"] or 0) > 0.5 for row in rows)
        if forced or masked:
            lines.append(
                f"A grammar forced {forced:,} of them, and took away over half of the probability {masked:,} times."
            )
        return lines

    def html(self) -> str:
        parts = [markup.heading(self.title), markup.sentences(self.summary())]
        if self._rows:
            parts += [_legend(), _chips(self._rows)]
            hardest = sorted((row for row in self._rows if row["p"] is not None), key=lambda row: row["p"])[:_HARDEST]
            parts += [
                markup.caption("The most surprising tokens"),
                markup.table(_SHORT, [_shown(row) for row in hardest]),
            ]
            table = markup.table(self.columns, [_shown(row) for row in self._rows])
            parts.append(markup.folded("All tokens", table))
        return markup.static("".join(parts))

    def _row(self, i: int, id: int, one: Mapping[str, Any], *, hidden: bool) -> Row:
        top, raw = _pairs(one.get("top")), _pairs(one.get("raw_top"))
        logprob = number(one.get("logprob"))
        rank = next((n for n, (other, _) in enumerate(top, 1) if other == id), None)
        entropy = number(one.get("entropy"))
        forced = one.get("forced")
        return {
            "i": i,
            "id": None if hidden else id,
            "piece": "•••" if hidden else self._piece(id),
            "p": _p(logprob),
            "logprob": logprob,
            "rank": rank,
            "entropy": None if entropy is None else round(entropy / math.log(2), 4),
            "top": None if hidden else self._named(top),
            "raw_p": _p(number(one.get("raw_logprob"))),
            "raw_top": None if hidden else self._named(raw),
            "removed": number(one.get("removed")),
            "forced": forced if isinstance(forced, bool) else None,
        }

    def _piece(self, id: int) -> str:
        piece = self.reading.piece(id)
        return f"#{id}" if piece is None else shown(piece)

    def _named(self, pairs: Sequence[tuple[int, float]]) -> str | None:
        return "  ".join(f"{self._piece(id)} {percent(_p(logprob))}" for id, logprob in pairs) or None


_SHORT = ("i", "piece", "p", "entropy", "top", "raw_top", "removed", "forced")


def _shown(row: Row) -> Row:
    return row | {name: percent(row[name]) for name in ("p", "raw_p", "removed") if row[name] is not None}


def _chips(rows: Sequence[Row]) -> str:
    first, last = ends(len(rows), MOST_CHIPS)
    parts = [_chip(row) for row in rows[:first]]
    if last:
        parts += [f"<div>{left_out(len(rows) - first - last, 'tokens')}</div>", *map(_chip, rows[-last:])]
    style = f"{markup.MONO};line-height:2;max-height:520px;overflow:auto"
    return f'<div style="{style}">{"".join(parts)}</div>'


def _chip(row: Row) -> str:
    """The token on its shade; its percentage where it was no near certainty; two lines around it if it was forced."""
    p = row["p"]
    tint, ink = shade_of(p) if p is not None else ("#ffffff", INK)
    border = "3px double #1a1a1a" if row["forced"] else "1px solid #767676"
    number = f'<span style="font-size:75%"> {percent(p)}</span>' if p is not None and p < 0.9 else ""
    style = f"background:{tint};color:{ink};border:{border};border-radius:3px;padding:1px 3px"
    piece = markup.plain(shorten(row["piece"], 60))
    line = "<br>" if row["piece"].endswith("⏎") else "<wbr>"
    return f'<span style="{style}" title="{markup.plain(_said(row))}">{piece}{number}</span>{line}'


def _said(row: Row) -> str:
    parts = [f"token {row['i']}: {percent(row['p'])}"]
    if row["entropy"] is not None:
        parts.append(f"entropy {row['entropy']:.2f} bits")
    if row["top"]:
        parts.append(f"candidates: {shorten(row['top'], 200)}")
    if row["removed"]:
        parts.append(f"the grammar took away {percent(row['removed'])}")
    return "; ".join([*parts, *(["forced"] if row["forced"] else [])])


def _legend() -> str:
    names = ("90 % and more", "60 %", "30 %", "10 %", "2 %", "less")
    inks = [shade_of(p)[1] for p in (0.95, 0.7, 0.4, 0.2, 0.05, 0.0)]
    parts = [
        f'<span style="background:{tint};color:{ink};border:1px solid #767676;padding:1px 6px">{name}</span>'
        for tint, ink, name in zip(SHADES, inks, names, strict=True)
    ]
    said = " the darker, the more surprising; double border: the grammar left no choice; entropy in bits"
    return f'<div style="margin:4px 0">{"".join(parts)}{said}</div>'


def _pairs(value: Any) -> list[tuple[int, float]]:
    """[[id, logprob], …] as far as it is that."""
    if not isinstance(value, list):
        return []
    pairs = [one for one in value if isinstance(one, list | tuple) and len(one) == 2 and type(one[0]) is int]
    return [(id, logprob) for id, given in pairs if (logprob := number(given)) is not None]


def _p(logprob: float | None) -> float | None:
    return None if logprob is None else round(math.exp(min(logprob, 0.0)), 6)


def percent(p: float | None) -> str:
    if p is None:
        return "?"
    if p < 0.0005:
        return "<0.1%"
    if 0.9995 <= p < 1:
        return ">99.9%"
    return f"{p:.0%}" if p >= 0.0995 else f"{p:.1%}"
