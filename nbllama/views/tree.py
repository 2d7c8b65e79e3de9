"""Several answers to one prompt as a tree: what they have in common once, each branch where it leaves the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from nbllama.views import markup
from nbllama.views.palette import INK, LINE, PAPER, shade_of
from nbllama.views.probabilities import Probabilities, percent
from nbllama.views.reading import Reading, Record
from nbllama.views.tokens import shown
from nbllama.views.view import Row, View, left_out, shorten
from nbllama.views.visible import visible

MOST_ANSWERS = 100
_MOST_TEXT = 2000
_MOST_LINE = 160
_MOST_INDENTED = 12
"""Levels that are shown one further to the right than the one before."""


class Answer:
    """One answer, as the tree reads it."""

    def __init__(self, record: Record) -> None:
        self.reading = Reading(record)
        self.ids = self.reading.output_ids
        self._told = Probabilities(record)

    @cached_property
    def _p(self) -> dict[tuple[int, int | None], float | None]:
        # Only of answers that are asked, mostly the first one: of 20 with 2,000 tokens each it took 2.8 s.
        told = self._told
        return {(row["i"], row["id"]): row["p"] for row in (*told.alternatives(), *told.rows())}

    @property
    def id(self) -> str:
        return self.reading.text("id")

    @property
    def ending(self) -> str:
        """How it ended, with its error."""
        error = self.reading.mapping("error").get("message")
        ending = self.reading.text("ending") or "not ended"
        return f"{ending}: {shorten(str(error), _MOST_LINE)}" if error else ending

    def probability(self, place: int, id: int) -> float | None:
        """Of a token at a place, 0 to 1, as far as this answer's record tells it."""
        p = self._p.get((place, id))
        return p if isinstance(p, float) else None

    def token(self, place: int) -> str:
        if place in self.reading.hidden[1]:
            return "•••"
        piece = self.reading.piece(self.ids[place])
        return f"#{self.ids[place]}" if piece is None else shown(piece)

    def text(self, start: int, end: int) -> str:
        """What these tokens spell; a character that is not whole here as U+FFFD."""
        hidden = self.reading.hidden[1]
        parts = (
            "•••".encode() if place in hidden else self.reading.piece(self.ids[place]) or f"#{self.ids[place]}".encode()
            for place in range(start, end)
        )
        return b"".join(parts).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Branch:
    """The tokens [start, end) that `answers` have in common; `ended` are those that end there, the others go on in
    `branches`. `p` of the first token, which is a choice where `level` is not 0."""

    level: int
    start: int
    end: int
    answers: tuple[Answer, ...]
    ended: tuple[Answer, ...]
    branches: tuple[Branch, ...]
    p: float | None

    def walk(self) -> Iterator[Branch]:
        """This one and all behind it, each before its own branches."""
        yield self
        for branch in self.branches:
            yield from branch.walk()

    @property
    def token(self) -> str | None:
        """The choice that leads here."""
        return self.answers[0].token(self.start) if self.level and self.end > self.start else None

    @property
    def text(self) -> str:
        """What follows the choice."""
        return self.answers[0].text(self.start + (self.token is not None), self.end)


class Tree(View):
    """Columns: a row for each branch; `at` is the index of its first token, p (0 to 1) the probability of that one."""

    name = "tree"
    title = "Branches"
    columns = ("level", "at", "id", "token", "p", "tokens", "text", "ending", "trace")

    def __init__(self, records: Sequence[Record]) -> None:
        """`records` of one prompt, the first one's answer first; at most MOST_ANSWERS are shown."""
        self.n_left_out = max(0, len(records) - MOST_ANSWERS)
        self._answers = tuple(map(Answer, records[:MOST_ANSWERS]))
        self._root = _branch(self._answers, 0, 0, None)

    def rows(self) -> list[Row]:
        return [_row(branch) for branch in self._root.walk() if branch.end > branch.start or branch.ended]

    def summary(self) -> list[str]:
        n, places = len(self._answers), {branch.end for branch in self._root.walk() if len(branch.branches) > 1}
        if not places:
            lines = ["1 answer, not forked yet."] if n == 1 else [f"{n} answers; none leaves the others."]
        else:
            at = ", ".join(map(str, sorted(places)))
            lines = [f"{n} answers; they part at token{'s' if len(places) > 1 else ''} {shorten(at, 200)}."]
        return [*lines, *([left_out(self.n_left_out, "answers")] if self.n_left_out else [])]

    def text(self) -> str:
        lines = [self.title, *(f"  {line}" for line in self.summary()), *_lines(self._root, "", "")]
        return visible("\n".join(lines))

    def html(self) -> str:
        parts = [markup.heading(self.title), markup.sentences(self.summary()), _html(self._root)]
        return markup.static("".join(parts))


def _branch(answers: tuple[Answer, ...], start: int, level: int, p: float | None) -> Branch:
    end = _end_of_common(answers, start)
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        if len(answer.ids) > end:
            groups.setdefault(answer.ids[end], []).append(answer)
    branches = tuple(_branch(tuple(group), end, level + 1, _p(answers, end, id)) for id, group in groups.items())
    return Branch(level, start, end, answers, tuple(a for a in answers if len(a.ids) == end), branches, p)


def _end_of_common(answers: tuple[Answer, ...], start: int) -> int:
    shortest = min((len(answer.ids) for answer in answers), default=0)
    places = range(start, shortest)
    return next((at for at in places if any(a.ids[at] != answers[0].ids[at] for a in answers)), max(start, shortest))


def _p(answers: tuple[Answer, ...], place: int, id: int) -> float | None:
    """As whoever of them was asked tells it: before this place they are all the same."""
    return next((p for answer in answers if (p := answer.probability(place, id)) is not None), None)


def _row(branch: Branch) -> Row:
    hidden = branch.token == "•••" or branch.token is None
    return {
        "level": branch.level,
        "at": branch.start,
        "id": None if hidden else branch.answers[0].ids[branch.start],
        "token": branch.token,
        "p": branch.p,
        "tokens": branch.end - branch.start,
        "text": branch.text if branch.answers else "",
        "ending": ", ".join(dict.fromkeys(answer.ending for answer in branch.ended)) or None,
        "trace": ", ".join(answer.id for answer in branch.ended) or None,
    }


def _lines(branch: Branch, first: str, further: str) -> list[str]:
    """`first` goes before its own line, `further` before those of its branches."""
    text = shorten(branch.text if branch.answers else "", _MOST_LINE).replace("\n", "⏎").replace("\t", "⇥")
    said = [*([f"{branch.start}: {_choice(branch)}"] if branch.token is not None else []), text]
    line = " ".join([*filter(None, said), *map(_end, branch.ended)])
    lines = [first + line] if line else []
    for place, inner in enumerate(branch.branches, 1):
        last = place == len(branch.branches)
        lines += _lines(inner, further + ("└─ " if last else "├─ "), further + ("   " if last else "│  "))
    return lines


def _choice(branch: Branch) -> str:
    return f"[{branch.token}]" + (f" {percent(branch.p)}" if branch.p is not None else "")


def _end(answer: Answer) -> str:
    return f"→ {answer.ending} ({answer.id})"


def _html(branch: Branch) -> str:
    text = markup.plain(shorten(branch.text if branch.answers else "", _MOST_TEXT))
    said = "".join(f" {_end(one)}" for one in branch.ended)
    ends = f'<span style="font-size:85%;opacity:0.85">{markup.plain(said)}</span>' if said else ""
    own = f'<div style="{markup.MONO};white-space:pre-wrap">{_chip(branch)}{text}{ends}</div>'
    inside = "".join(map(_html, branch.branches))
    if not branch.level:
        return own + inside
    margin = 18 if branch.level <= _MOST_INDENTED else 0
    style = f"margin:4px 0 4px {margin}px;border-left:3px solid {LINE};padding-left:8px"
    return f'<div style="{style}">{own}{inside}</div>'


def _chip(branch: Branch) -> str:
    if branch.token is None:
        return ""
    tint, ink = shade_of(branch.p) if branch.p is not None else (PAPER, INK)
    style = f"background:{tint};color:{ink};border:1px solid {LINE};border-radius:3px;padding:0 3px"
    said = f"token {branch.start}" + ("" if branch.p is None else f", probability {percent(branch.p)}")
    number = "" if branch.p is None else f" {percent(branch.p)}"
    chip = f'<span style="{style}" title="{said}">{markup.plain(shorten(branch.token, 60))}</span>'
    return f'<span style="font-size:85%">{branch.start}:</span> {chip}<span style="font-size:85%">{number}</span> '
