"""Rules of one grammar, collected: markers as the vocabulary has them, text up to a marker, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbllama.chat.errors import SchemaRefused
from nbllama.chat.lark import COMPACT_STYLE, JSON_STYLE, literal

SPACE = "/[ \\t\\n]{0,4}/"
ANY_SPACE = "[ \\t\\r\\n]{0,64}"
"""In a regular expression: as much space as the parser skips."""
_ID = "/[a-zA-Z0-9]{9}/"
_SLOT = re.compile(r"(\{id\}|\{any\})")
_MAX_ANY = 24
# Values that are looked at for one grammar: references that lead back to each other have no end else.
MAX_VALUES = 20_000


@dataclass(frozen=True, slots=True)
class ControlIds:
    """The vocabulary's tokens that are never text, by their spelling, and those of them that end an answer."""

    ids: Mapping[str, int] = field(default_factory=dict)
    ends: frozenset[int] = frozenset()


class Rules:
    """Lark rules by name. A rule that is the same as one that is there already is not written twice."""

    def __init__(self, control: ControlIds, *, compact: bool = False) -> None:
        self._control = control
        self._style = COMPACT_STYLE if compact else JSON_STYLE
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._n_values = 0
        spellings = sorted((re.escape(text) for text in control.ids if text), key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(spellings)})") if spellings else None

    def add(self, body: str, name: str = "", *, lazy: bool = False, whole: bool = False) -> str:
        """The name of a rule with this body. `lazy`: it ends as soon as it can. Both it and `whole` are one lexeme."""
        key = f"{lazy}{whole}{body}"
        if not name and key in self._names:
            return self._names[key]
        name = name or f"{'R' if whole else 'r'}{len(self._bodies)}"
        self._bodies[f"{name}[lazy]" if lazy else name] = body
        self._names.setdefault(key, name)
        return name

    def count_value(self, where: str) -> None:
        """One more value. Raises SchemaRefused where there are too many."""
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise SchemaRefused(f"{where}: more than {MAX_VALUES} values, at most so many can be followed")

    def lark(self, start: str) -> str:
        """The whole grammar."""
        return "\n".join([f"start: {start}", *(f"{name}: {body}" for name, body in self._bodies.items())])

    def json(self, schema: Mapping[str, Any]) -> str:
        """JSON by a prepared schema, written as the format writes JSON."""
        return self.add("%json " + json.dumps({**schema, "x-guidance": self._style}))

    def fixed(self, text: str) -> str:
        """A marker to the letter: control tokens where it spells them. Its slots take an id, or a few characters."""
        pieces = [piece for part in _SLOT.split(text) for piece in self._pieces(part)]
        return " ".join(self._expression(piece, pieces[index + 1 :]) for index, piece in enumerate(pieces))

    def until(self, close: str) -> str:
        """Any text and the marker that ends it."""
        pieces = self._pieces(close)
        if pieces[0] in self._control.ids:
            return self.add(f"/(.|\\n)*/ {self.fixed(close)}")
        if len(pieces) > 1:
            # Its text may stand in what it ends: the token behind it tells.
            return self.add(f"/(.|\\n)*{pattern(pieces[0])}/ {self.fixed(''.join(pieces[1:]))}")
        return self.add(f"/(.|\\n)*{pattern(close)}/", lazy=True)

    def limited(self, text: str, close: str) -> str:
        """Text that fits the terminal `text`, without the marker that ends it, and this marker."""
        pieces = self._pieces(close)
        if pieces[0] in self._control.ids:
            return self.add(f"{text} {self.fixed(close)}")
        ended = pattern(pieces[0])
        if len(pieces) > 1:
            return self.add(f"{self.add(f'({text}) /{ended}/', whole=True)} {self.fixed(''.join(pieces[1:]))}")
        return self.add(f"({text} & ~/(.|\\n)*{ended}(.|\\n)*/) /{ended}/", lazy=True)

    def free(self, but: tuple[str, ...] = (), apart: tuple[str, ...] = (), not_first: tuple[str, ...] = ()) -> str:
        """Any text and control tokens but those that end an answer, and those that are spelled like one of `but`.

        `apart` are tokens that something else in the grammar may begin with at the same place, `not_first` those that
        mean something else before any text."""
        others = self._others(but, (*apart, *not_first))
        if not others:
            return self.add("/(.|\\n)*/")
        if not any(text in self._control.ids for text in not_first):
            return self.add(f"({others} | /(.|\\n)+/)*")
        begun = " | ".join(filter(None, (self._others((*but, *not_first), apart), "/[ \\t\\r\\n]+/")))
        return self.add(f"({begun})* (/(.|\\n)*[^ \\t\\r\\n](.|\\n)*/ ({others} | /(.|\\n)+/)*)?")

    def committing(self, marker: str) -> str:
        """A marker beside free text: its first text counts as the marker as soon as it stands there."""
        first = self.leading_token(marker)
        rest = marker[len(first) :]
        text = next(iter(self._pieces(_SLOT.split(rest)[0])), "")
        if text in self._control.ids or not text.strip():
            return self.fixed(marker)
        lazy = self.add(f"/{ANY_SPACE}{spaced(text.strip())}/", lazy=True)
        return in_order(self.fixed(first), lazy, self.fixed(rest[len(text.rstrip()) :].lstrip()))

    def from_token(self, text: str) -> str:
        """A marker from its first control token on; all of it where it holds none."""
        tokens = self.tokens_of(text)
        return text[text.index(tokens[0]) :] if tokens else text

    def leading_token(self, text: str) -> str:
        """The control token that a marker begins with; empty if it begins with text."""
        first = next(iter(self._pieces(text)), "")
        return first if first in self._control.ids else ""

    def tokens_of(self, text: str) -> list[str]:
        """The control tokens in a marker."""
        return [piece for piece in self._pieces(text) if piece in self._control.ids]

    def ends_answer(self, marker: str) -> bool:
        """Whether a marker is a token behind which a model writes nothing."""
        return self._control.ids.get(marker) in self._control.ends

    def _others(self, but: tuple[str, ...], apart: tuple[str, ...] = ()) -> str:
        known = {text: id for text, id in self._control.ids.items() if text not in but and id not in self._control.ends}
        # Of two sets of tokens that overlap, llguidance follows one alone: what is in both is written as one token.
        alone = [f"<[{known[text]}]>" for text in dict.fromkeys(apart) if text in known]
        ids = sorted(id for text, id in known.items() if text not in apart)
        return " | ".join([*alone, f"<[{','.join(_ranges(ids))}]>"] if ids else alone)

    def _pieces(self, text: str) -> list[str]:
        return [part for part in (self._split.split(text) if self._split else [text]) if part]

    def _expression(self, piece: str, following: list[str]) -> str:
        if piece in self._control.ids:
            return f"<[{self._control.ids[piece]}]>"
        if piece == "{id}":
            return _ID
        if piece == "{any}":
            # A lexeme takes all it can: it must not be able to take what follows.
            stop = re.escape(following[0][0]).replace("/", "\\/") if following else ""
            return f"/[^\\n<>\\[\\]{{}}{stop}]{{0,{_MAX_ANY}}}/"
        return literal(piece)


def pattern(text: str) -> str:
    """A regular expression for exactly this text, to stand between slashes."""
    return "".join("\\n" if char == "\n" else re.escape(char).replace("/", "\\/") for char in text)


def spaced(text: str) -> str:
    """The same with any space where there is some."""
    return ANY_SPACE.join(map(pattern, text.split()))


def in_order(*parts: str) -> str:
    """Expressions one after another; empty ones are left out."""
    return " ".join(part for part in parts if part)


def either(options: Iterable[str]) -> str:
    """One of several expressions."""
    return f"({' | '.join(dict.fromkeys(options))})"


def _ranges(ids: list[int]) -> list[str]:
    ranges: list[list[int]] = []
    for id in ids:
        if ranges and ranges[-1][1] == id - 1:
            ranges[-1][1] = id
        else:
            ranges.append([id, id])
    return [f"{first}-{last}" if last > first else str(first) for first, last in ranges]
