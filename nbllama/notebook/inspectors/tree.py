"""`trace.tree()`: an answer and its forks."""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.shown_view import TEXT, ShownView
from nbllama.views.tree import Tree


class TraceTree(ShownView[Tree]):
    """`df` has a row for each branch."""

    dtypes: ClassVar = {
        "level": "int64",
        "at": "int64",
        "id": "Int64",
        "token": TEXT,
        "p": "float64",
        "tokens": "int64",
        "text": TEXT,
        "ending": TEXT,
        "trace": TEXT,
    }

    def __repr__(self) -> str:
        return self.text
