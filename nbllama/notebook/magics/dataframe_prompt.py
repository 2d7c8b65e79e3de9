"""`-i NAME`: a DataFrame in words, within a budget of tokens: its columns, their types, its first rows.

pandas is not imported: who has a DataFrame has it already.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.phrases import bounded

MOST_ROWS = 10
_MOST_CHARACTERS = 60
"""Of a cell or of a column's name."""


@dataclass(frozen=True)
class Facts:
    """What can be said of a DataFrame: a line a column, and the first rows, each as long as there are columns."""

    head: str
    columns: list[str]
    rows: list[list[str]]

    def text(self, n_rows: int, n_columns: int) -> str:
        """What is said with so many of its rows and columns."""
        more = len(self.columns) - n_columns
        left_out = [f"… and {more:,} more columns"] if more else []
        lines = [self.head, *(f"- {line}" for line in self.columns[:n_columns]), *left_out]
        if n_rows:
            lines += ["Its first rows:", _csv([row[:n_columns] for row in self.rows[: n_rows + 1]])]
        return "\n".join(lines)


def described(name: str, value: Any, budget: int, count: Callable[[str], int]) -> tuple[str, int]:
    """The text and its tokens. `count` tells the tokens of a text.

    Rows go first when the budget is tight, then columns, the last ones first. Raises UsageError for what is no
    DataFrame, and for a budget that is too small for a single column."""
    facts = _facts(name, _frame(name, value))
    n_columns = len(facts.columns)
    n_rows = _most(len(facts.rows) - 1, lambda n: count(facts.text(n, n_columns)) <= budget)
    if n_rows is None:
        n_rows, fitting = 0, _most(n_columns, lambda n: count(facts.text(0, n)) <= budget)
        if not fitting:
            least = count(facts.text(0, min(1, n_columns)))
            raise UsageError(f"--budget {budget}: the shortest description of {name} has {least} tokens; give as many")
        n_columns = fitting
    text = facts.text(n_rows, n_columns)
    return text, count(text)


def _most(most: int, fits: Callable[[int], bool]) -> int | None:
    """The greatest number up to `most` that fits, if those below it do too; None if not even 0 does."""
    if fits(most):
        return most
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low >= 0 else None


def _frame(name: str, value: Any) -> Any:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        return value.to_frame()
    if pandas is None or not isinstance(value, pandas.DataFrame):
        raise UsageError(
            f"-i {name}: is of type {type(value).__name__}, not a DataFrame; {{{{{name}}}}} puts it in as text"
        )
    return value


def _facts(name: str, frame: Any) -> Facts:
    n_columns = frame.shape[1]
    head = frame.iloc[:MOST_ROWS]
    names = [_short(one) for one in frame.columns]
    columns = [f"{names[number]}: {_kind(frame.iloc[:, number])}" for number in range(n_columns)]
    rows = [[_short(head.iat[row, column]) for column in range(n_columns)] for row in range(len(head))]
    if type(frame.index).__name__ != "RangeIndex":
        names.insert(0, _short(frame.index.name or "index"))
        columns.insert(0, f"{names[0]}: {frame.index.dtype}, the index")
        rows = [[_short(head.index[number]), *row] for number, row in enumerate(rows)]
    return Facts(
        f"The pandas DataFrame `{name}` ({len(frame):,} rows x {n_columns:,} columns):", columns, [names, *rows]
    )


def _kind(column: Any) -> str:
    missing = int(column.isna().sum())
    return str(column.dtype) + (f", {missing:,} missing" if missing else "")


def _csv(rows: list[list[str]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().rstrip("\n")


def _short(value: Any) -> str:
    """A value on one line, cut if it is long."""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return bounded(text, _MOST_CHARACTERS)
