"""The few pieces of HTML that all views are made of: escaped, with literal inline styles, nothing that runs. Pure.

What an untrusted notebook keeps was measured: inline styles with literal values, `title`, tables, `<details>`, images
with data. It removes `<style>`, `<svg>` and theme variables.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from html import escape
from typing import Any

from nbllama.views.palette import ALARM, ALARM_LINE, GOOD, GOOD_LINE, INK, Look
from nbllama.views.view import SENTENCE_CHARS, Row, ends, left_out, shorten
from nbllama.views.visible import visible

MONO = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
FRAME = f"{MONO};white-space:pre-wrap;border:1px solid #767676;border-radius:4px;padding:6px 10px;margin:4px 0"
"""Around text as it was written."""
TABLE_ROWS = 300
_CELL = "text-align:left;vertical-align:top;padding:2px 10px 2px 0;border:none"
_RIGHT = "text-align:right;vertical-align:top;padding:2px 10px 2px 0;border:none"
_CELL_CHARS = 300


def plain(value: Any) -> str:
    """Text as it is, within a tag or an attribute."""
    return escape(visible(str(value)))


def static(html: str) -> str:
    """HTML as an output keeps it: no math is set in it, and an exported Markdown file shows it as it is here.

    MathJax would run over a model's `$…$` (nbconvert's 2.7 and JupyterLab's 3 know one class each), and
    `\\href{javascript:…}` is math to it. In Markdown a blank line ends the HTML: what follows would be Markdown."""
    # Of the styles that break long words, an untrusted notebook keeps this one.
    return f'<div class="tex2jax_ignore mathjax_ignore" style="overflow-wrap:break-word">{html}</div>'.replace(
        "\n", "&#10;"
    )


def heading(text: str) -> str:
    """The title of a view: for screen readers, too; a real `<h2>` would stand in a notebook's table of contents."""
    style = "font-weight:bold;font-size:115%;margin:8px 0 2px 0"
    return f'<div role="heading" aria-level="2" style="{style}">{plain(text)}</div>'


def caption(text: str) -> str:
    return f'<div role="heading" aria-level="3" style="font-weight:bold;margin:10px 0 2px 0">{plain(text)}</div>'


def sentences(lines: Iterable[str]) -> str:
    return "".join(f'<div style="margin:2px 0">{plain(shorten(line, SENTENCE_CHARS))}</div>' for line in lines)


def notice(text: str, *, good: bool = False) -> str:
    """A sentence that must not be missed. Good or bad is also said by its first sign."""
    tint, line, sign = (GOOD, GOOD_LINE, "✓") if good else (ALARM, ALARM_LINE, "⚠")
    style = f"background:{tint};color:{INK};border-left:5px solid {line};padding:5px 10px;margin:5px 0"
    return f'<div style="{style}">{sign} {plain(shorten(text, SENTENCE_CHARS))}</div>'


def chip_style(look: Look) -> str:
    """For text in the colours of an origin."""
    return f"background:{look.tint};color:{INK};border:1px {look.border} {look.line};border-radius:3px;padding:0 3px"


def chip(text: str, look: Look, title: str = "", more: str = "") -> str:
    said = f' title="{plain(title)}"' if title else ""
    return f'<span style="{chip_style(look)};{more}"{said}>{plain(text)}</span>'


def table(columns: Sequence[str], rows: Sequence[Row], *, most: int = TABLE_ROWS) -> str:
    """An ordinary table; columns without any value are left out, long cells shortened, of many rows the ends."""
    first, last = ends(len(rows), most)
    shown = [*rows[:first], *(rows[-last:] if last else [])]
    used = [name for name in columns if any(row.get(name) is not None for row in shown)]
    if not used:
        return ""
    numeric = {name for name in used if all(is_number(row.get(name)) or row.get(name) is None for row in shown)}
    lines = ["".join(cell(row.get(name), right=name in numeric) for name in used) for row in shown]
    if last:
        gap = left_out(len(rows) - first - last, "rows")
        lines.insert(first, f'<td colspan="{len(used)}" style="{_CELL}">{gap}</td>')
    return html_table(used, lines, right=numeric)


def html_table(columns: Sequence[str], lines: Sequence[str], *, right: Container[str] = ()) -> str:
    """A table of rows that are HTML already: each the `<td>`s of one. The columns in `right` are of numbers."""
    styles = [_RIGHT if name in right else _CELL for name in columns]
    names = zip(columns, styles, strict=True)
    head = "".join(
        f'<th scope="col" style="{style};border-bottom:1px solid #767676">{plain(name)}</th>' for name, style in names
    )
    body = "".join(f'<tr style="background:transparent">{line}</tr>' for line in lines)
    return (
        '<div style="overflow:auto;max-height:460px"><table style="border-collapse:collapse;margin:4px 0">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: Any, *, right: bool = False) -> str:
    if isinstance(value, bool):
        return html_cell("yes" if value else "no")
    if is_number(value) or right:
        said = "-" if value is None else number(value)
        return f'<td style="{_RIGHT}">{said}</td>'
    return html_cell("-" if value is None else plain(shorten(str(value), _CELL_CHARS)), wraps=True)


def number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def html_cell(html: str, *, wraps: bool = False) -> str:
    return f'<td style="{_CELL}{";white-space:pre-wrap" if wraps else ""}">{html}</td>'


def block(text: str, most: int = 4000) -> str:
    """Text as it was written, in a frame of its own."""
    return f'<div style="{FRAME};max-height:300px;overflow:auto">{plain(shorten(text, most))}</div>'


def folded(summary: str, html: str) -> str:
    return f'<details style="margin:6px 0"><summary>{plain(summary)}</summary>{html}</details>'
