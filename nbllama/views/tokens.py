"""The exact prompt and the answer as tokens: what each is, who wrote it, whether it was computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from nbllama.views import tokens_html
from nbllama.views.answer_parts import answer_origins
from nbllama.views.masking import COVER
from nbllama.views.reading import UNKNOWN, Origin, Reading, Record
from nbllama.views.view import Row, View, ends, left_out, missing, text_table
from nbllama.views.visible import visible

_TEXT_TOKENS = 600
_MOST_KINDS = 20


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `piece` is None where its bytes are not recorded, `cached` None in the answer."""

    index: int
    id: int | None
    piece: bytes | None
    special: bool | None
    origin: Origin
    cached: bool | None

    @property
    def shown(self) -> str:
        """Its text with white space to be seen; half a character as its bytes; its id where nothing else is known."""
        if self.piece is None:
            return COVER * 3 if self.id is None else f"#{self.id}"
        return shown(self.piece)


class Tokens(View):
    """`context` is the model's context in tokens, for the gauge; None: what the record says, if it does."""

    name = "tokens"
    title = "Tokens"
    columns = ("i", "part", "id", "piece", "bytes", "special", "origin", "message", "block", "cached")

    def __init__(self, record: Record, *, context: int | None = None) -> None:
        self.reading = Reading(record)
        self.context = context or max(int(self.reading.number("n_ctx") or 0), 0) or None

    @cached_property
    def prompt(self) -> Sequence[Token]:
        reading, origins = self.reading, self.reading.prompt_origins
        n_cached = reading.cached_tokens
        return [
            self._token(index, id, origins[index] if origins else UNKNOWN, index < n_cached, reading.hidden[0])
            for index, id in enumerate(reading.prompt_ids)
        ]

    @cached_property
    def answer(self) -> Sequence[Token]:
        origins = answer_origins(self.reading)
        hidden = self.reading.hidden[1]
        return [
            self._token(index, id, origins[index], None, hidden) for index, id in enumerate(self.reading.output_ids)
        ]

    def rows(self) -> list[Row]:
        parts = chain((("prompt", token) for token in self.prompt), (("answer", token) for token in self.answer))
        return [_row(part, token) for part, token in parts]

    def counts(self) -> list[tuple[Origin, int]]:
        """Tokens by kind of origin, in the order in which they first appear; the answer last. Many kinds are cut."""
        found = Counter(token.origin.kind for token in self.prompt)
        for kind in list(found)[_MOST_KINDS:]:
            found["other"] += found.pop(kind)
        answer = {"answer": len(self.answer)} if self.answer else {}
        return [(Origin(kind), count) for kind, count in {**found, **answer}.items()]

    def summary(self) -> list[str]:
        reading = self.reading
        if not reading.prompt_ids:
            return [missing("the prompt's tokens"), *reading.warnings]
        n, n_cached = len(reading.prompt_ids), reading.cached_tokens
        lines = [f"{n:,} tokens in the prompt ({n_cached:,} cached, {n - n_cached:,} computed)"]
        lines[0] += f", {len(reading.output_ids):,} in the answer."
        if self.context:
            used = n + len(reading.output_ids)
            lines.append(f"{used:,} of {self.context:,} tokens of context are used ({used / self.context:.1%}).")
        if not reading.has_pieces:
            lines.append(missing("the text of each token") + "; tokens are shown by their ids.")
        if not reading.prompt_origins:
            lines.append(missing("who wrote which token") + ".")
        return lines

    def text(self) -> str:
        counts = [{"origin": origin.kind, "tokens": count} for origin, count in self.counts()]
        lines = [*self._said(), "", text_table(("origin", "tokens"), counts), ""]
        return "\n".join([*lines, *_runs_as_text(self.prompt), *_runs_as_text(self.answer)])

    def html(self) -> str:
        return tokens_html.html(self)

    def _token(self, index: int, id: int, origin: Origin, cached: bool | None, hidden: frozenset[int]) -> Token:
        if index in hidden:
            return Token(index, None, None, None, origin, cached)
        special = self.reading.special
        return Token(index, id, self.reading.piece(id), None if special is None else id in special, origin, cached)


def shown(piece: bytes) -> str:
    """A token's bytes as one line of text, in which every character is seen: "[U+200B]" for one of no width."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return f"⟨{piece.hex(' ')}⟩"
    text = visible(text.replace("\r", "␍")).replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in text) or "⟨empty⟩"


def runs(tokens: Sequence[Token]) -> list[list[Token]]:
    """Neighbours of one origin, together."""
    found: list[list[Token]] = []
    for token in tokens:
        if found and found[-1][-1].origin == token.origin:
            found[-1].append(token)
        else:
            found.append([token])
    return found


def _row(part: str, token: Token) -> Row:
    origin, piece = token.origin, token.piece
    return {
        "i": token.index,
        "part": part,
        "id": token.id,
        "piece": None if piece is None else piece.decode(errors="backslashreplace"),
        "bytes": None if piece is None else piece.hex(" "),
        "special": token.special,
        "origin": origin.kind,
        "message": origin.message,
        "block": origin.block,
        "cached": token.cached,
    }


def _runs_as_text(tokens: Sequence[Token]) -> list[str]:
    first, last = ends(len(tokens), _TEXT_TOKENS)
    gap = [left_out(len(tokens) - first - last, "tokens")] if last else []
    end = tokens[len(tokens) - last :] if last else []
    return [*map(_run_as_text, runs(tokens[:first])), *gap, *map(_run_as_text, runs(end))]


def _run_as_text(run: Sequence[Token]) -> str:
    return visible(f"{run[0].index:>6}  {run[0].origin.label:<28} {'│'.join(token.shown for token in run)}")
