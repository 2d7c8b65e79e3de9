"""Where the time went: one row for each request, a bar for each, and the pace of the tokens of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from nbllama.views import markup
from nbllama.views.palette import INK, LINE, Look, look_of
from nbllama.views.picture import WIDTH, Picture, round_step, seconds
from nbllama.views.reading import Reading, Record
from nbllama.views.view import Row, View, missing
from nbllama.wire.records import RequestRecord

MOST_BARS = 40
_PHASES = (
    ("queue", "waiting for a place", look_of("template")),
    ("prefill", "computing the prompt", look_of("system")),
    ("decode", "writing the answer", look_of("user")),
    ("rest", "everything else", Look("#ffffff", "#6b6b6b", "dotted", "plain")),
)
_LEFT, _BAR = 150, 26
_CLOCK = 1e-4
"""Seconds below which a prefill says how fast the clock is read, not the prompt."""


class Timing(View):
    """Of one record or of many. Times in seconds."""

    name = "timing"
    title = "Timing"
    columns = (
        *("id", "model", "ending", "queue", "prefill", "first", "decode", "total", "prompt", "cached", "output"),
        *("per_token", "tok_s", "prefill_tok_s"),
    )

    def __init__(self, records: Record | Sequence[Record]) -> None:
        many = [records] if isinstance(records, RequestRecord | Mapping) else list(records)
        self.readings = [Reading(record) for record in many]

    def rows(self) -> list[Row]:
        return [_row(reading) for reading in self.readings]

    def token_rows(self) -> list[Row]:
        """Of each request's answer the tokens: i, time since the request was accepted, gap to the one before."""
        return [row for reading in self.readings for row in _token_rows(reading)]

    def summary(self) -> list[str]:
        if len(self.readings) != 1:
            return [f"{len(self.readings):,} requests, in the order given."]
        (row,) = self.rows()
        if row["total"] is None:
            return [missing("timings")]
        phases = [f"{name} {seconds(row[name])}" for name, _, _ in _PHASES[:3] if row[name] is not None]
        lines = [f"{seconds(row['total'])} in all" + (f": {', '.join(phases)}." if phases else ".")]
        if row["first"] is not None:
            lines.append(f"The first token came after {seconds(row['first'])}.")
        if row["tok_s"]:
            each = "" if row["per_token"] is None else f", {seconds(row['per_token'])} a token"
            lines.append(f"{row['tok_s']:,.1f} tokens a second{each}.")
        if row["prefill_tok_s"]:
            lines.append(f"The prompt was computed at {row['prefill_tok_s']:,.0f} tokens a second.")
        lines += _steps(self.readings[0])
        return [*lines, *_pace(self.token_rows())]

    def html(self) -> str:
        parts = [markup.heading(self.title), markup.sentences(self.summary()), self._bars()]
        rows = self.token_rows() if len(self.readings) == 1 else []
        if len(rows) > 2 and rows[0]["time"] is not None:
            parts += [markup.caption("Gap before each token of the answer"), _gaps(rows)]
        short = [row | {"id": _short(row["id"])} for row in self.rows()]
        return markup.static("".join([*parts, markup.table(self.columns, short)]))

    def _bars(self) -> str:
        timed = [row for row in self.rows() if row["total"] is not None]
        if not timed:
            return ""
        shown = timed[:MOST_BARS]
        longest = max(max(row["total"] for row in shown), 1e-6)
        picture, scale = Picture(len(shown) * _BAR + 62), (WIDTH - _LEFT - 90) / longest
        for n, row in enumerate(shown):
            _draw_bar(picture, row, 10 + n * _BAR, scale)
        bottom = 14 + len(shown) * _BAR
        _axis(picture, longest, scale, bottom)
        left = float(_LEFT)
        for _, meaning, look in _PHASES:
            picture.bar(left, bottom + 26, 14, 14, look)
            picture.words(left + 19, bottom + 38, meaning, size=12)
            left += 34 + 7 * len(meaning)
        more = f"; {len(timed) - len(shown)} more are in the table" if len(timed) > len(shown) else ""
        return picture.html(f"Bars of {len(shown)} requests, the longest {seconds(longest)}{more}")


def _row(reading: Reading) -> Row:
    times = reading.timings
    n_prompt, n_cached, n_output = len(reading.prompt_ids), reading.cached_tokens, len(reading.output_ids)
    prefill, decode, n_computed = times.get("prefill_s"), times.get("decode_s"), n_prompt - n_cached
    per_token = round(decode / (n_output - 1), 6) if decode and n_output > 1 else None
    return {
        "id": reading.text("id"),
        "model": reading.model,
        "ending": reading.text("ending"),
        "queue": times.get("queued_s"),
        "prefill": prefill,
        "first": times.get("first_token_s"),
        "decode": decode,
        "total": times.get("total_s"),
        "prompt": n_prompt or None,
        "cached": n_cached if n_prompt else None,
        "output": n_output,
        "per_token": per_token,
        "tok_s": times.get("tokens_per_second"),
        "prefill_tok_s": round(n_computed / prefill, 1) if prefill and prefill > _CLOCK and n_computed > 0 else None,
    }


def _token_rows(reading: Reading) -> list[Row]:
    times = reading.token_times
    if times is None:
        return []
    before = [None, *times[:-1]]
    return [
        {"id": reading.text("id"), "i": i, "time": time, "gap": None if last is None else round(time - last, 6)}
        for i, (time, last) in enumerate(zip(times, before, strict=True))
    ]


def _steps(reading: Reading) -> list[str]:
    times = reading.timings
    if "prefill_steps" not in times and "decode_steps" not in times:
        return []
    told = [f"{int(times[name]):,} {what}" for name, what in _STEPS if name in times]
    return [f"Steps of the engine: {', '.join(told)}."]


_STEPS = (("prefill_steps", "for the prompt"), ("decode_steps", "for the answer"))


def _pace(rows: Sequence[Row]) -> list[str]:
    gaps = [row["gap"] for row in rows if row["gap"] is not None]
    if not gaps:
        return [missing("the time of each token") + "."]
    return [f"Between two tokens: median {seconds(median(gaps))}, at most {seconds(max(gaps))}."]


def _draw_bar(picture: Picture, row: Row, top: float, scale: float) -> None:
    picture.words(_LEFT - 8, top + 15, _short(row["id"]), anchor="end", size=12)
    known = {name: row[name] or 0.0 for name in ("queue", "prefill", "decode")}
    rest = max(row["total"] - sum(known.values()), 0.0)
    left = float(_LEFT)
    for name, _, look in _PHASES:
        width = (known | {"rest": rest})[name] * scale
        if width > 0.3:
            picture.bar(left, top, width, _BAR - 8, look)
        left += width
    picture.words(_LEFT + row["total"] * scale + 6, top + 15, seconds(row["total"]), size=12)


def _short(id: str) -> str:
    return id if len(id) <= 18 else f"{id[:10]}…{id[-6:]}"


def _axis(picture: Picture, longest: float, scale: float, bottom: float) -> None:
    picture.line(_LEFT, bottom, _LEFT + longest * scale, bottom, LINE)
    step, n = round_step(longest, 6), 0
    while n * step <= longest:
        x = _LEFT + n * step * scale
        picture.line(x, bottom, x, bottom + 4, LINE)
        picture.words(x, bottom + 16, seconds(n * step) if n else "0", anchor="middle", size=11)
        n += 1


def _gaps(rows: Sequence[Row]) -> str:
    """A bar for each token; of many, the longest gap of each group."""
    gaps = [row["gap"] or 0.0 for row in rows[1:]]
    group = -(-len(gaps) // 220)
    tallest = [max(gaps[i : i + group]) for i in range(0, len(gaps), group)]
    longest = max(max(tallest), 1e-9)
    picture, width = Picture(130), (WIDTH - 90) / len(tallest)
    for n, gap in enumerate(tallest):
        height = 84 * gap / longest
        picture.bar(70 + n * width, 100 - height, max(width - 1.5, 1), height, look_of("user"))
    picture.line(70, 100, WIDTH - 20, 100, LINE)
    picture.words(62, 24, seconds(longest), anchor="end", size=11)
    picture.words(62, 103, "0", anchor="end", size=11)
    picture.words(70, 118, "token 1", size=11)
    picture.words(WIDTH - 20, 118, f"token {len(gaps)}", anchor="end", size=11)
    height = 100 - 84 * median(gaps) / longest
    picture.line(70, height, WIDTH - 20, height, INK)
    picture.words(WIDTH - 20, height - 4, f"median: {seconds(median(gaps))}", anchor="end", size=11)
    return picture.html(f"Gaps between {len(gaps) + 1} tokens, the longest {seconds(longest)}")
