"""Tokens to click on: a filter, a search, and of the one that is picked all that is known."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.chips import CONTROL, Chip, Chips, Skin
from nbllama.notebook.widgets.panel import Panel, beside, compact, facts, html, put, words
from nbllama.views import markup
from nbllama.views.palette import INK, look_of
from nbllama.views.tokens import Token, Tokens
from nbllama.views.view import shorten

_AROUND = 12
"""Tokens that are shown before and behind the one that is picked."""
_MOST_BYTES = 64
_ID = re.compile("#[0-9]+")


def tokens(view: Tokens) -> TokensPanel:
    """Chips by pages: click one, or type its number, to see its id, bytes, origin, whether it was cached, its place."""
    return TokensPanel(view)


class TokensPanel(Panel):
    view: Tokens

    def __init__(self, view: Tokens) -> None:
        super().__init__(view)
        self._all: Sequence[Token] = [*view.prompt, *view.answer]
        self._listed: Sequence[int] = range(len(self._all))
        self.filters = _filters(view)
        options = [(f"{name} ({len(found):,})", name) for name, found in self._by_filter.items()]
        self.filter = ipywidgets.Dropdown(options=_plain(options), description="show", **compact("230px"))
        self.search = ipywidgets.Text(
            placeholder="text, or #id", description="search", continuous_update=False, **compact("200px")
        )
        self.pick = ipywidgets.BoundedIntText(
            value=0, min=0, max=max(len(self._all) - 1, 0), description="token", **compact("130px")
        )
        self.in_place = self.button("show in place", "without filter and search", self._show_in_place)
        self.found, self.details = html(), html()
        self.chips = Chips(self, "token", lambda place: self._pick(self._listed[place]))
        self.on(self.filter, lambda _: self._list())
        self.on(self.search, lambda _: self._list())
        self.on(self.pick, self._pick)
        finding = beside(self.filter, self.search, self.pick, self.in_place)
        self.fill(html(_legend(view)), finding, self.found, self.chips.box, self.details)
        self._list()
        put(
            self.details,
            markup.sentences(["Pick a token: click it, or type its number. · is a space, ⏎ a line's end."]),
        )

    @cached_property
    def _by_filter(self) -> dict[str, list[int]]:
        return {name: [n for n, token in enumerate(self._all) if fits(n, token)] for name, fits in self.filters}

    def _list(self) -> None:
        """What filter and search leave."""
        kept: Sequence[int] = self._by_filter[self.filter.value]
        searched = self.search.value
        if searched:
            hits = set(self._hits(searched))
            kept = [n for n in kept if n in hits]
        self._listed = kept
        n = len(kept)
        said = f"{n:,} token{'' if n == 1 else 's'} with {shorten(searched, 60)!r}." if searched else ""
        put(self.found, markup.sentences([said]) if said else "")
        self.chips.show(n, lambda place: self._chip(self._listed[place]))
        if self.pick.value in kept and self.details_of is not None:
            self.chips.choose(kept.index(self.pick.value))

    details_of: int | None = None
    """The token that is picked, counted through prompt and answer."""

    def _pick(self, n: int) -> None:
        if self.details_of == n or not self._all:
            return
        self.details_of = n
        self.pick.value = n
        place = _index(self._listed, n)
        if place is None:
            self._show_in_place()
        else:
            self.chips.choose(place)
        put(self.details, self._details(n))

    def _show_in_place(self) -> None:
        self.search.value = ""
        self.filter.value = _EVERYTHING
        if self.details_of is not None:
            self.chips.choose(self.details_of)

    def _hits(self, searched: str) -> Iterator[int]:
        """Tokens that hold some of it: a word may be spread over several. `#12` is the token with the id 12."""
        if _ID.fullmatch(searched):
            wished = searched[1:].lstrip("0") or "0"
            yield from (n for n, token in enumerate(self._all) if str(token.id) == wished)
        for first, last, text, starts in self._texts:
            at = text.find(wanted := searched.encode(errors="replace"))
            while at >= 0:
                hit = range(bisect_right(starts, at) - 1, bisect_right(starts, at + len(wanted) - 1))
                yield from (first + n for n in hit if first + n < last)
                at = text.find(wanted, at + 1)

    @cached_property
    def _texts(self) -> list[tuple[int, int, bytes, list[int]]]:
        """Of the prompt and of the answer: first token, the one behind the last, the bytes, where each token starts."""
        found, first = [], 0
        for part in (self.view.prompt, self.view.answer):
            pieces = [token.piece or b"" for token in part]
            starts = [0, *accumulate(map(len, pieces))][: len(pieces)]
            found.append((first, first + len(part), b"".join(pieces), starts))
            first += len(part)
        return found

    def _chip(self, n: int) -> Chip:
        token = self._all[n]
        skin = CONTROL if token.special else Skin.of(look_of(token.origin.kind))
        id = "" if token.id is None else f", id {token.id}"
        tip = f"token {n}{id}, {token.origin.label}{_kept(token)}"
        return Chip(token.shown, tip, skin, bool(token.piece and token.piece.endswith(b"\n")))

    def _details(self, n: int) -> str:
        token, in_prompt = self._all[n], n < len(self.view.prompt)
        part = "prompt" if in_prompt else "answer"
        chip = markup.chip(token.origin.label, look_of(token.origin.kind))
        whole = len(self.view.prompt) if in_prompt else len(self.view.answer)
        lines = [
            ("token", f"number {token.index:,} of the {part}'s {whole:,}, which count from 0"),
            ("id", "hidden" if token.id is None else markup.plain(f"{token.id:,}{self._how_often(token.id)}")),
            ("text", _text(token)),
            ("bytes", _bytes(token.piece)),
            ("written by", chip + (" a control token: one piece, no text" if token.special else "")),
            (
                "kept",
                markup.plain(_kept(token).removeprefix(", ") or "generated, so neither cached nor computed before"),
            ),
            ("place", markup.plain(self._place(token, in_prompt))),
            ("around it", self._around(n)),
        ]
        return markup.caption(f"Token {n:,}") + facts(lines)

    def _how_often(self, id: int) -> str:
        n = self._occurrences[id]
        return "; it stands here once" if n == 1 else f"; it stands here {n:,} times"

    @cached_property
    def _occurrences(self) -> Counter[int | None]:
        return Counter(token.id for token in self._all)

    def _place(self, token: Token, in_prompt: bool) -> str:
        offsets = self.view.reading.offsets if in_prompt else None
        at = f"character {offsets[token.index]:,} of the prompt; " if offsets else ""
        used = token.index + 1 + (0 if in_prompt else len(self.view.prompt))
        context = self.view.context
        return f"{at}with it {used:,}" + (
            f" of {context:,} tokens of context are used" if context else " tokens are used"
        )

    def _around(self, n: int) -> str:
        first, last = max(0, n - _AROUND), n + _AROUND + 1
        mark = f"background:#ffffff;color:{INK};border:3px solid #d55e00;border-radius:3px;padding:0 3px"
        parts = [
            f'<b style="{mark}">{text}</b>' if first + place == n else text
            for place, token in enumerate(self._all[first:last])
            for text in [markup.plain(shorten(token.shown, 40))]
        ]
        return f'<span style="{markup.MONO}">{"<wbr>".join(parts)}</span>'


_EVERYTHING = "everything"

Fits = Callable[[int, Token], bool]


def _filters(view: Tokens) -> list[tuple[str, Fits]]:
    """Those that leave anything, by name."""
    n_prompt = len(view.prompt)
    both: list[tuple[str, Fits]] = [(_EVERYTHING, lambda n, token: True)]
    if view.prompt:
        both.append(("prompt", lambda n, token: n < n_prompt))
    if view.answer:
        both.append(("answer", lambda n, token: n >= n_prompt))
    kinds = dict.fromkeys(token.origin.kind for token in [*view.prompt, *view.answer])
    both += [(f"from {kind}", _of_kind(kind)) for kind in list(kinds)[:_MOST_KINDS]]
    if any(token.special for token in [*view.prompt, *view.answer]):
        both.append(("control tokens", lambda n, token: bool(token.special)))
    if view.reading.cached_tokens:
        both.append(("cached", lambda n, token: token.cached is True))
    if view.prompt:
        both.append(("computed", lambda n, token: token.cached is False))
    return both


_MOST_KINDS = 40


def _of_kind(kind: str) -> Fits:
    return lambda n, token: token.origin.kind == kind


def _plain(options: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(words(shorten(label, 80)), name) for label, name in options]


def _legend(view: Tokens) -> str:
    """The names of the colours, with how many tokens each has."""
    tokens = [*view.prompt, *view.answer]
    counts = Counter(token.origin.kind for token in tokens).most_common(_MOST_KINDS)
    style = "white-space:nowrap"
    chips = [markup.chip(f"{shorten(kind, 40)} {count:,}", look_of(kind), more=style) for kind, count in counts]
    if n := sum(bool(token.special) for token in tokens):
        dark = f"background:{CONTROL.background};color:{CONTROL.ink};border:{CONTROL.border};border-radius:3px"
        chips.append(f'<span style="{dark};padding:0 3px;{style}">control tokens {n:,}</span>')
    return f'<div style="margin:4px 0;line-height:1.8">{" ".join(chips)}</div>'


def _index(listed: Sequence[int], n: int) -> int | None:
    try:
        return listed.index(n)
    except ValueError:
        return None


def _kept(token: Token) -> str:
    return {True: ", from the cache", False: ", computed for this request", None: ""}[token.cached]


def _text(token: Token) -> str:
    style = f"{markup.MONO};border:1px solid #767676;border-radius:3px;padding:0 3px"
    return f'<span style="{style}">{markup.plain(shorten(token.shown, 400))}</span>'


def _bytes(piece: bytes | None) -> str:
    if piece is None:
        return "not recorded"
    shown = piece[:_MOST_BYTES]
    more = f" … {len(piece) - len(shown):,} more" if len(piece) > len(shown) else ""
    cells = "".join(f'<span style="{_BYTE}">{byte:02x}</span>' for byte in shown)
    count = f"{len(piece):,} byte{'' if len(piece) == 1 else 's'}"
    try:
        piece.decode()
    except UnicodeDecodeError:
        count += ", which are no whole characters of UTF-8"
    return f"{cells} {more} ({count})"


_BYTE = f"{markup.MONO};border:1px solid #767676;border-radius:2px;padding:0 3px;margin-right:2px"
