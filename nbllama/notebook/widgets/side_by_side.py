"""Two texts next to each other, what differs marked, as HTML. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from nbllama.views import markup
from nbllama.views.palette import ALARM, ALARM_LINE, GOOD, GOOD_LINE, INK

MOST_CHARS = 6000
"""Of each side."""
_WORDS = re.compile(r"\w+|\s|[^\w\s]")


def side_by_side(before: str, after: str, heads: tuple[str, str] = ("before", "now")) -> str:
    """Equal words are plain; those of one side only have its colour and its kind of line below them."""
    texts = before[:MOST_CHARS], after[:MOST_CHARS]
    first, second = (_WORDS.findall(text) for text in texts)
    # Without `autojunk`, 3,000 equal commas on each side take the third power of that: 400 took 1.5 s, in the kernel.
    matcher = SequenceMatcher(None, first, second, autojunk=True)
    left, right = [], []
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        left.append(_part(first[i1:i2], kind != "equal", _GONE))
        right.append(_part(second[j1:j2], kind != "equal", _COME))
    rest = [
        f"… {len(text) - MOST_CHARS:,} more characters …" if len(text) > MOST_CHARS else "" for text in (before, after)
    ]
    columns = [
        _column(f"{sign} {head}", line, "".join(parts), more)
        for sign, head, line, parts, more in zip("-+", heads, (ALARM_LINE, GOOD_LINE), (left, right), rest, strict=True)
    ]
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(columns)}</div>'


_GONE = f"background:{ALARM};color:{INK};border-bottom:3px double {ALARM_LINE}"
_COME = f"background:{GOOD};color:{INK};border-bottom:3px solid {GOOD_LINE}"


def _part(words: Sequence[str], differs: bool, style: str) -> str:
    text = markup.plain("".join(words)).replace("\n", "⏎\n")
    return f'<span style="{style}">{text}</span>' if differs and text else text


def _column(head: str, line: str, html: str, more: str) -> str:
    frame = f"{markup.MONO};white-space:pre-wrap;border:1px solid #767676;border-top:4px solid {line};padding:6px 10px"
    body = html or "<i>⟨nothing⟩</i>"
    return (
        f'<div style="flex:1 1 300px;min-width:0;margin:2px 8px 2px 0"><b>{markup.plain(head)}</b>'
        f'<div style="{frame};max-height:340px;overflow:auto">{body}{markup.plain(more)}</div></div>'
    )
