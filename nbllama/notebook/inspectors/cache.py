"""`.cache()`: why was my prompt computed again?"""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT
from nbllama.views.cache import Cache


class CacheInspector(Inspector[Cache]):
    """`df` has a row for each part of the later prompt."""

    dtypes: ClassVar = {
        "part": "int64",
        "origin": TEXT,
        "message": "Int64",
        "block": "Int64",
        "start": "int64",
        "tokens": "int64",
        "same": "Int64",
        "cached": "int64",
        "computed": "int64",
    }

    @property
    def causes(self) -> list[str]:
        """The names of what explains a loss, the engine's part first; empty without an earlier request."""
        return [cause.name for cause in self.view.causes]
