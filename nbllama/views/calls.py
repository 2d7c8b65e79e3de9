"""How the answer was taken apart: the raw text beside the parser's decisions and the events that each piece became."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from nbllama.views import markup
from nbllama.views.answer_parts import answer_offsets
from nbllama.views.palette import ALARM, ALARM_LINE, INK, look_of
from nbllama.views.probabilities import percent
from nbllama.views.reading import Reading, Record, number, whole_number
from nbllama.views.step_events import events_of_steps
from nbllama.views.view import Row, View, missing, shorten

MOST_STEPS = 300
FAILED = "no call after all"
"""How a decision begins that took a call back: `chat/free_text.py` says it."""

_LOOKS = (
    ("ToolStart", "tools"),
    ("ToolArgsDelta", "tools"),
    ("ToolStop", "tools"),
    ("ThinkDelta", "answer: thinking"),
    ("TextDelta", "answer: text"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that was none: where in the answer it began, and the character `at` which it could not be read."""

    start: int
    at: int
    text: str
    sentence: str


class Calls(View):
    """Columns: start, end in characters of the answer's raw text, below 0 in the prompt's end; events by number."""

    name = "calls"
    title = "Calls"
    columns = ("i", "start", "end", "text", "state", "decision", "pieces", "events", "forced", "removed")

    def __init__(self, record: Record) -> None:
        self.reading = Reading(record)

    @property
    def raw(self) -> str:
        """What the model wrote."""
        return self.reading.text("output_text")

    @cached_property
    def steps(self) -> list[Mapping[str, Any]]:
        steps = self.reading.mappings("parser_steps")
        return [step for step in steps if None not in (whole_number(step.get("start")), whole_number(step.get("end")))]

    @cached_property
    def failures(self) -> list[Failure]:
        """The calls that could not be read."""
        found = []
        for step in self.steps:
            if str(step.get("decision", "")).startswith(FAILED):
                found.append(_no_call(self.raw, step["start"], step["end"]))
            elif "ToolStart" in str(step.get("pieces")):
                found += _bad_arguments(self.raw, step["start"], step["end"])
        return found

    def rows(self) -> list[Row]:
        events = [event for _, event in self.reading.events]
        numbers = events_of_steps(self.raw, self.steps, events)
        return [self._row(i, step, numbers[i]) for i, step in enumerate(self.steps)]

    def summary(self) -> list[str]:
        if not self.steps:
            return [missing("the parser's steps") + "."]
        calls = _tool_uses(self.reading)
        lines = [f"{len(self.raw):,} characters were read in {len(self.steps):,} steps: {_count(len(calls), 'call')}."]
        lines += [f"Call of {shorten(name, 100)} with {shorten(arguments, 200)}" for name, arguments in calls[:20]]
        return [*lines, *(one.sentence for one in self.failures)]

    def html(self) -> str:
        failed = {one.sentence for one in self.failures}
        said = [line for line in self.summary() if line not in failed]
        parts = [markup.heading(self.title), markup.sentences(said)]
        for failure in self.failures[:20]:
            parts += [markup.notice(failure.sentence), _place(self.raw, failure)]
        if not self.steps:
            return markup.static("".join([*parts, *([markup.block(self.raw)] if self.raw else [])]))
        parts.append(_legend())
        rows = self.rows()[:MOST_STEPS]
        masked = any(_grammar(row) for row in rows)
        head = _HEAD if masked else _HEAD[:-1]
        parts.append(markup.html_table(head, [_line(row, masked) for row in rows]))
        if len(self.steps) > MOST_STEPS:
            parts.append(markup.sentences([f"… {len(self.steps) - MOST_STEPS:,} more steps left out …"]))
        parts.append(markup.folded("The raw text in one piece", markup.block(self.raw)))
        return markup.static("".join(parts))

    def _row(self, i: int, step: Mapping[str, Any], events: Sequence[int]) -> Row:
        start, end = step["start"], step["end"]
        pieces = step.get("pieces")
        forced, removed = self._mask(start, end)
        return {
            "i": i,
            "start": start,
            "end": end,
            "text": self.raw[max(start, 0) : max(end, 0)],
            "state": str(step.get("state", "")),
            "decision": str(step.get("decision", "")),
            "pieces": " ".join(map(str, pieces)) if isinstance(pieces, list) else "",
            "events": _ranges(events),
            "forced": forced,
            "removed": removed,
        }

    @cached_property
    def _masks(self) -> list[tuple[int, bool, float]]:
        """For each token its place, whether a grammar forced it, and the probability that the grammar took away."""
        asked, offsets = self.reading.mappings("probabilities"), answer_offsets(self.reading)
        if not asked or offsets is None or len(asked) > len(offsets):
            return []
        # Of a long answer only the first ones are kept.
        pairs = zip(offsets, asked, strict=False)
        return [(at, one.get("forced") is True, number(one.get("removed")) or 0.0) for at, one in pairs]

    def _mask(self, start: int, end: int) -> tuple[int | None, float | None]:
        """(tokens that were forced, the most that was taken away at once) in a part of the text."""
        first, last = (bisect_left(self._masks, place, key=itemgetter(0)) for place in (start, end))
        inside = [(forced, removed) for _, forced, removed in self._masks[first:last]]
        if not inside:
            return None, None
        return sum(forced for forced, _ in inside), round(max(removed for _, removed in inside), 4)


_HEAD = ("raw text", "state", "decision", "pieces", "events", "grammar")


def _line(row: Row, masked: bool) -> str:
    nothing = "<i>(in the prompt)</i>" if row["start"] < 0 else "<i>(nothing)</i>"
    text = markup.plain(shorten(row["text"], 600)).replace("\n", "⏎<br>") or nothing
    look = look_of(next((kind for piece, kind in _LOOKS if piece in row["pieces"]), "template"))
    raw = f'<div style="{markup.chip_style(look)};{markup.MONO};white-space:pre-wrap">{text}</div>'
    failed = row["decision"].startswith(FAILED)
    style = f"background:{ALARM};color:{INK};border-left:4px solid {ALARM_LINE};padding:0 4px"
    state, decision, pieces, events = (_short(row[name]) for name in ("state", "decision", "pieces", "events"))
    cells = [raw, state, f'<span style="{style}">⚠ {decision}</span>' if failed else decision]
    cells += [pieces.replace(" ", "<br>"), events]
    cells += [_grammar(row)] if masked else []
    return "".join(map(markup.html_cell, cells))


def _short(text: str) -> str:
    return markup.plain(shorten(text, 300))


def _grammar(row: Row) -> str:
    parts = [f"{row['forced']} forced"] if row["forced"] else []
    return ", ".join([*parts, *([f"{percent(row['removed'])} removed at most"] if row["removed"] else [])])


def _legend() -> str:
    kinds = (("tool call", "tools"), ("thinking", "answer: thinking"), ("text", "answer: text"), ("marker", "template"))
    chips = " ".join(markup.chip(name, look_of(kind)) for name, kind in kinds)
    return f'<div style="margin:4px 0">{chips} events: their numbers in the view of events</div>'


def _no_call(raw: str, start: int, end: int) -> Failure:
    """The character where reading ended; in a call of JSON the one where the JSON breaks."""
    text = raw[max(start, 0) : max(end, 0)]
    at, why = max(end, 0), "what was read up to there is no call of an offered tool in this model's format"
    broken = _breaks(raw, max(start, 0) + text.find("{")) if "{" in text else None
    if broken is not None:
        at, why = broken.pos, f"its JSON breaks there ({broken.msg})"
    sentence = (
        f"A call that begins at character {start} could not be read: at character {at} stands {_at(raw, at)}; {why}."
    )
    return Failure(start, at, text, f"{sentence} It stayed text.")


def _bad_arguments(raw: str, start: int, end: int) -> list[Failure]:
    """A call that was announced before its arguments turned out to be no JSON."""
    text = raw[max(start, 0) : max(end, 0)]
    json_call = _JSON_CALL.search(text)
    broken = _breaks(raw, max(start, 0) + json_call.start()) if json_call else None
    if broken is None:
        return []
    # A text without its closing quote is said to break where it begins.
    if broken.pos >= len(raw.rstrip()) or broken.msg.startswith("Unterminated"):
        return [Failure(start, len(raw), text, f"The answer ends inside the call that begins at character {start}.")]
    sentence = (
        f"A call that begins at character {start} was read as one, but its JSON breaks at character {broken.pos}, "
        f"where {_at(raw, broken.pos)} stands ({broken.msg}): its input cannot be used."
    )
    return [Failure(start, broken.pos, text, sentence)]


_JSON_CALL = re.compile(r"""\{\s*"(?:name|arguments|parameters|function)"\s*:""")


def _breaks(text: str, at: int) -> json.JSONDecodeError | None:
    try:
        json.JSONDecoder().raw_decode(text, at)
    except json.JSONDecodeError as error:
        return error
    except (ValueError, RecursionError):
        pass
    return None


def _at(raw: str, at: int) -> str:
    return repr(raw[at]) if at < len(raw) else "the end of the answer"


def _place(raw: str, failure: Failure) -> str:
    """The text around the character."""
    at = failure.at
    before, char, behind = raw[max(0, at - 120) : at], raw[at : at + 1] or "⟨end⟩", raw[at + 1 : at + 60]
    mark = f"background:{ALARM};color:{INK};border:2px solid {ALARM_LINE};padding:0 3px"
    parts = f'{markup.plain(before)}<b style="{mark}">{markup.plain(char)}</b>{markup.plain(behind)}'
    return f'<div style="{markup.FRAME}">{parts}</div>'


def _tool_uses(reading: Reading) -> list[tuple[str, str]]:
    content = reading.mapping("message").get("content")
    blocks = content if isinstance(content, list) else []
    uses = [block for block in blocks if isinstance(block, Mapping) and block.get("type") == "tool_use"]
    return [(str(use.get("name")), json.dumps(use.get("input"), ensure_ascii=False, default=str)) for use in uses]


def _count(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


def _ranges(numbers: Sequence[int]) -> str:
    """ "3-5 7"."""
    parts: list[list[int]] = []
    for one in numbers:
        if parts and parts[-1][1] == one - 1:
            parts[-1][1] = one
        else:
            parts.append([one, one])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
