"""One text as the tokens of two models or more: how many each needs, and where they cut alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from nbllama.views import markup
from nbllama.views.palette import Look
from nbllama.views.tokens import Token, Tokens
from nbllama.views.view import Row, View, left_out, shorten, text_table
from nbllama.views.visible import visible

MOST_LINES = 40
MOST_CHIPS = 1200
"""Of each model, spread over the lines that are shown."""
_ALIKE = Look("#e6e6e6", "#6b6b6b", "solid", "plain")
_OWN = Look("#fde3b3", "#8a5200", "dashed", "dots")
_PIECE_CHARS = 40

Place = tuple[int, bytes | None]


class Tokenizers(View):
    """Columns: model, i of the token, `start` its character in the text, `same` whether every other model has just this
    token there; None where the texts differ, as prompts of two templates do."""

    name = "tokenizers"
    title = "Tokenizers"
    columns = ("model", "i", "id", "piece", "bytes", "special", "start", "same")

    def __init__(self, views: Sequence[Tokens]) -> None:
        self.views = list(views)

    @cached_property
    def names(self) -> list[str]:
        """The models' names; a second one of the same name is numbered."""
        names, seen = [view.reading.model or "?" for view in self.views], Counter[str]()
        for name in names:
            seen[name] += 1
        again = Counter[str]()
        numbered = []
        for name in names:
            again[name] += 1
            numbered.append(f"{name} ({again[name]})" if seen[name] > 1 else name)
        return numbered

    @cached_property
    def one_text(self) -> bool:
        return len({view.reading.text("prompt") for view in self.views}) == 1

    @cached_property
    def shared(self) -> set[Place]:
        """The tokens, as (start, bytes), that all have."""
        return set.intersection(*(set(_places(view)) for view in self.views)) if self.one_text and self.views else set()

    def rows(self) -> list[Row]:
        return [row for name, view in zip(self.names, self.views, strict=True) for row in self._rows(name, view)]

    def counts(self) -> list[Row]:
        """A row for each model: tokens, bytes and characters of each token on average, tokens that all have."""
        return list(self._counts)

    @cached_property
    def _counts(self) -> list[Row]:
        return [self._count(name, view) for name, view in zip(self.names, self.views, strict=True)]

    def summary(self) -> list[str]:
        counts = [(row["tokens"], row["model"]) for row in self.counts()]
        lines = [", ".join(f"{name} needs {n:,} tokens" for n, name in counts) + "."]
        (least, _), (most, _) = min(counts), max(counts)
        if least and most > least:
            lines.append(f"That is {most / least:.2f} times as many.")
        if not self.one_text:
            lines.append("Their prompts differ, as their templates do: token by token they cannot be compared.")
        return lines

    def text(self) -> str:
        head = super().text().partition("\n")[0]
        table = text_table(tuple(self.counts()[0]), self.counts())
        lines = [head, *(f"  {line}" for line in self.summary()), "", table, ""]
        for name, _, tokens in self._shown():
            lines.append(f"{name:<24.24} {'│'.join(token.shown for token in tokens)}")
        return visible("\n".join(lines))

    def html(self) -> str:
        parts = [markup.heading(self.title), markup.sentences(self.summary())]
        parts.append(markup.table(tuple(self.counts()[0]), self.counts()))
        if self.one_text:
            legend = f"{markup.chip('the same in all', _ALIKE)} {markup.chip('cut here in its own way', _OWN)}"
            parts.append(f'<div style="margin:4px 0">{legend}</div>')
        lines = [_line(name, view, tokens, self.shared) for name, view, tokens in self._shown()]
        parts.append(markup.html_table(("model", "tokens"), lines))
        n = max(map(len, self._split), default=0)
        parts += [markup.sentences([left_out(n - MOST_LINES, "lines")])] if n > MOST_LINES else []
        return markup.static("".join(parts))

    @cached_property
    def _split(self) -> list[list[list[Token]]]:
        return [_lines(view) for view in self.views]

    def _shown(self) -> Iterator[tuple[str, Tokens, Sequence[Token]]]:
        """For each line of the text the tokens that begin in it, model by model."""
        split = self._split
        room = [MOST_CHIPS] * len(split)
        for n in range(min(max(map(len, split), default=0), MOST_LINES)):
            for at, (name, view) in enumerate(zip(self.names, self.views, strict=True)):
                tokens = split[at][n] if n < len(split[at]) else []
                if tokens and room[at]:
                    yield name, view, tokens[: room[at]]
                    room[at] = max(0, room[at] - len(tokens))

    def _rows(self, name: str, view: Tokens) -> Iterator[Row]:
        starts: Sequence[int | None] = view.reading.offsets or [None] * len(view.prompt)
        for token, start in zip(view.prompt, starts, strict=True):
            piece = token.piece
            yield {
                "model": name,
                "i": token.index,
                "id": token.id,
                "piece": None if piece is None else piece.decode(errors="backslashreplace"),
                "bytes": None if piece is None else piece.hex(" "),
                "special": token.special,
                "start": start,
                "same": (start, piece) in self.shared if self.one_text and start is not None else None,
            }

    def _count(self, name: str, view: Tokens) -> Row:
        text, n = view.reading.text("prompt"), len(view.prompt)
        size = len(text.encode(errors="replace"))
        alike = sum(place in self.shared for place in _places(view)) if self.one_text else None
        shares: Row = {"bytes_each": round(size / n, 3), "chars_each": round(len(text) / n, 3)} if n else {}
        return {"model": name, "tokens": n, "bytes_each": None, "chars_each": None, **shares, "same": alike}


def _places(view: Tokens) -> list[Place]:
    return list(zip(view.reading.offsets or [], (token.piece for token in view.prompt), strict=False))


def _lines(view: Tokens) -> list[list[Token]]:
    """The tokens by the line of the text in which they begin."""
    lines: list[list[Token]] = [[]]
    text, at = view.reading.text("prompt"), 0
    for token, start in zip(view.prompt, view.reading.offsets or [0] * len(view.prompt), strict=True):
        for _ in range(text.count("\n", at, max(at, start))):
            lines.append([])
        at = max(at, start)
        lines[-1].append(token)
    return lines


def _line(name: str, view: Tokens, tokens: Sequence[Token], shared: set[Place]) -> str:
    starts = view.reading.offsets
    chips = []
    for token in tokens:
        place: Any = (starts[token.index] if starts else None, token.piece)
        said = f"token {token.index}, id {token.id}"
        chips.append(
            markup.chip(shorten(token.shown, _PIECE_CHARS), _ALIKE if not shared or place in shared else _OWN, said)
        )
    style = f"{markup.MONO};line-height:1.75"
    head = f'<span style="white-space:nowrap">{markup.plain(shorten(name, 24))}</span>'
    return markup.html_cell(head) + markup.html_cell(f'<div style="{style}">{"<wbr>".join(chips)}</div>')
