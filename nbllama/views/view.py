"""What every view is: rows for a table, text for a terminal, static HTML for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nbllama.views.reading import NOT_RECORDED
from nbllama.views.visible import visible

Row = dict[str, Any]

TEXT_ROWS = 60
"""Rows of a table on a terminal; of longer ones the first two thirds and the last third."""
SENTENCE_CHARS = 600
"""Of a sentence: names and reasons in it are others' words."""
_WIDEST = 48


class View:
    """One way to look at a request. `columns` are the keys of every row, in order; values are plain, or None."""

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def rows(self) -> list[Row]:
        """All of it, unshortened."""
        raise NotImplementedError

    def summary(self) -> list[str]:
        """What is to be said before the rows, in sentences; also what is not recorded."""
        return []

    def text(self) -> str:
        """For a terminal: the sentences, then the rows, shortened to a screen or two."""
        table = text_table(self.columns, self.rows())
        return "\n".join([*self._said(), *([table] if table else [])])

    def _said(self) -> list[str]:
        return [self.title, *(f"  {visible(shorten(line, SENTENCE_CHARS))}" for line in self.summary())]

    def html(self) -> str:
        """Static and escaped, with inline styles: for a notebook's output, also an untrusted one's. At most ~1 MB."""
        raise NotImplementedError


def ends(n: int, most: int) -> tuple[int, int]:
    """How many of `n` things to show from the start and from the end, when `most` may be shown."""
    return (n, 0) if n <= most else (most - most // 3, most // 3)


def left_out(n: int, what: str) -> str:
    return f"… {n:,} {what} left out …"


def shorten(text: str, most: int) -> str:
    """At most `most` characters, then how many more there are."""
    return text if len(text) <= most else f"{text[:most]}… (+{len(text) - most:,} characters)"


def missing(what: str) -> str:
    return f"{what}: {NOT_RECORDED}"


def text_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Aligned columns; empty for no rows. A column without a value in any row is left out."""
    first, last = ends(len(rows), TEXT_ROWS)
    shown = [*rows[:first], *(rows[-last:] if last else [])]
    used = [name for name in columns if any(row.get(name) is not None for row in shown)]
    if not shown or not used:
        return ""
    cells = [[_cell(row.get(name)) for name in used] for row in shown]
    widths = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(used)]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in shown) for name in used]
    lines = [_line(used, widths, numeric), *(_line(line, widths, numeric) for line in cells)]
    if last:
        lines.insert(first + 1, left_out(len(rows) - first - last, "rows"))
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = zip(cells, widths, numeric, strict=True)
    return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in padded).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    # One line a row, in whatever the cell holds.
    text = visible(str(value)).replace("\n", "⏎").replace("\t", "⇥")
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
