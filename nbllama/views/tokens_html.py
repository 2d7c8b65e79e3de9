"""Tokens as chips: a row for each run of one origin, named beside it; a gauge of the context above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllama.views import markup
from nbllama.views.palette import INK, PAPER, look_of
from nbllama.views.picture import WIDTH, Picture
from nbllama.views.view import ends, left_out, shorten

if TYPE_CHECKING:
    from nbllama.views.reading import Origin
    from nbllama.views.tokens import Token, Tokens

MOST_CHIPS = 1500
"""Of the prompt and of the answer each: about 250 bytes a chip."""
_PIECE_CHARS = 60
_GAUGE_HEIGHT = 110
_CONTEXT_HEIGHT = 42


def html(view: Tokens) -> str:
    parts = [markup.heading("Tokens"), markup.sentences(view.summary())]
    if view.prompt or view.answer:
        parts += [_gauge(view), _legend(view)]
    if view.prompt:
        parts += [
            markup.caption(f"{'Prompt' if view.asked else 'Text'}: {len(view.prompt):,} tokens"),
            _chips(view.prompt),
        ]
    if view.answer:
        parts += [markup.caption(f"Answer: {len(view.answer):,} tokens"), _chips(view.answer)]
    return markup.static("".join(parts))


def _gauge(view: Tokens) -> str:
    """How much of the context is used, and below it, drawn larger, by what."""
    counts = view.counts()
    used = max(sum(count for _, count in counts), 1)
    picture, wide = Picture(_GAUGE_HEIGHT if view.context else _GAUGE_HEIGHT - _CONTEXT_HEIGHT), WIDTH - 20
    top = 14.0
    if view.context:
        share = min(used / view.context, 1.0)
        picture.bar(10, top, wide, 12, look_of("answer"))
        picture.bar(10, top, wide * share, 12, look_of("assistant"))
        picture.words(10, top + 26, f"{share:.1%} of the context of {view.context:,} tokens, which are:", size=12)
        top += _CONTEXT_HEIGHT
    _parts(picture, counts, top, wide / used)
    if view.asked:
        _kept(picture, view, top + 36, wide / used)
    said = ", ".join(f"{origin.kind} {count}" for origin, count in counts)
    return picture.html(f"Tokens by origin: {said}")


def _parts(picture: Picture, counts: Sequence[tuple[Origin, int]], top: float, scale: float) -> None:
    left = 10.0
    for origin, count in counts:
        width = count * scale
        picture.bar(left, top, width, 30, look_of(origin.kind))
        # On a hatching words need paper of their own.
        if width > 9 * len(origin.kind):
            words = 7.5 * len(origin.kind)
            picture.bar(left + width / 2 - words / 2, top + 7, words, 17, look_of("answer"))
            picture.words(left + width / 2, top + 20, origin.kind, anchor="middle", size=12)
        left += width


def _kept(picture: Picture, view: Tokens, top: float, scale: float) -> None:
    """Below it, in the prompt's order: what came from the cache, what was computed, what was generated."""
    n_prompt, n_cached = len(view.prompt), min(view.reading.cached_tokens, len(view.prompt))
    left = 10.0
    for count, name in ((n_cached, "cached"), (n_prompt - n_cached, "computed"), (len(view.answer), "generated")):
        if count:
            end = left + count * scale
            picture.line(left + 1, top, end - 1, top, INK, 4 if name == "cached" else 1.5)
            if end - left > 8 * len(f"{count:,} {name}"):
                picture.words((left + end) / 2, top + 16, f"{count:,} {name}", anchor="middle", size=12)
            left = end


def _legend(view: Tokens) -> str:
    """The counts beside their colours; what a dark chip and a bar between chips mean."""
    total = max(sum(count for _, count in view.counts()), 1)
    lines = [
        markup.html_cell(markup.chip(origin.kind, look_of(origin.kind)))
        + markup.cell(count)
        + markup.html_cell(f"{count / total:.0%}")
        for origin, count in view.counts()
    ]
    special = f'<span style="{_SPECIAL}">dark</span> is a control token; '
    said = "· is a space, ⏎ a line's end, ⟨e2 82⟩ half a character; point at a token to see its id and origin."
    return markup.html_table(("origin", "tokens", "share"), lines) + f"<div>{special}{markup.plain(said)}</div>"


_SPECIAL = f"background:#333333;color:{PAPER};border:1px solid {PAPER};border-radius:3px;padding:0 3px"
_LABEL = "text-align:right;vertical-align:top;white-space:nowrap;padding:3px 10px 3px 0;border:none"
_RUN = f"text-align:left;{markup.MONO};line-height:1.75;padding:1px 0;border:none;white-space:normal"


def _chips(tokens: Sequence[Token]) -> str:
    from nbllama.views.tokens import runs

    first, last = ends(len(tokens), MOST_CHIPS)
    lines = _lines(runs(tokens[:first]))
    if last:
        gap = left_out(len(tokens) - first - last, "tokens")
        lines.append(f'<tr><td style="{_LABEL}"></td><td style="{_RUN}">{gap}</td></tr>')
        lines += _lines(runs(tokens[len(tokens) - last :]))
    return (
        '<div style="max-height:560px;overflow:auto"><table style="border-collapse:collapse;margin:4px 0"><tbody>'
        f"{''.join(lines)}</tbody></table></div>"
    )


def _lines(found: Sequence[Sequence[Token]]) -> list[str]:
    """A row for each run; where the cached ones end between two, a row says so."""
    lines = []
    for n, run in enumerate(found):
        if n and found[n - 1][-1].cached and run[0].cached is False:
            lines.append(f'<tr><td style="{_LABEL}"></td><td style="{_RUN}"><b>{_BORDER}</b></td></tr>')
        lines.append(_line(run))
    return lines


_BORDER = "▲ from the cache — computed from here ▼"


def _line(run: Sequence[Token]) -> str:
    origin = run[0].origin
    look = look_of(origin.kind)
    name = f'<span style="{markup.chip_style(look)}">{markup.plain(origin.label)}</span>'
    return (
        f'<tr style="background:transparent"><td style="{_LABEL}">{name}</td><td style="{_RUN}">{_run(run)}</td></tr>'
    )


def _run(run: Sequence[Token]) -> str:
    """The chips; where the cached ones end inside a run, a mark says so."""
    parts = []
    for n, token in enumerate(run):
        if n and run[n - 1].cached and token.cached is False:
            parts.append(" <b>◀ from the cache — computed from here ▶</b> ")
        parts.append(_chip(token))
        # A place where the line may break; a line's end in the text is one on the screen, too.
        parts.append("<br>" if token.piece is not None and token.piece.endswith(b"\n") else "<wbr>")
    if parts and parts[-1] == "<br>":
        parts.pop()
    return "".join(parts)


def _chip(token: Token) -> str:
    look = look_of(token.origin.kind)
    style = _SPECIAL if token.special else markup.chip_style(look)
    return f'<span style="{style}" title="{markup.plain(_said(token))}">{markup.plain(_piece(token))}</span>'


def _piece(token: Token) -> str:
    return shorten(token.shown, _PIECE_CHARS)


def _said(token: Token) -> str:
    cached = {True: ", cached", False: ", computed", None: ""}[token.cached]
    data = "" if token.piece is None else f", bytes {shorten(token.piece.hex(' '), 60)}"
    id = "hidden" if token.id is None else f"id {token.id}"
    return f"token {token.index}, {id}{data}, {token.origin.label}{', control token' if token.special else ''}{cached}"
