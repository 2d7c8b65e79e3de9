"""A view as an object that shows itself: as HTML, as text, as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from nbllama.views.view import Row, View

if TYPE_CHECKING:
    import pandas as pd

V = TypeVar("V", bound=View, covariant=True)

TEXT = "text"
"""The dtype of a column of text: what this pandas makes of one by itself."""


class ShownView(Generic[V]):
    """As the last line of a cell it shows itself; static, so that it outlives its kernel.

    `dtypes` are those of every column of `df`."""

    dtypes: ClassVar[Mapping[str, str]]

    def __init__(self, view: V) -> None:
        self.view = view

    @cached_property
    def df(self) -> pd.DataFrame:
        """All rows, unshortened, as an ordinary DataFrame; docs/traces.md and docs/fork.md say what a column means."""
        return frame_of(self.view.rows(), self.view.columns, self.dtypes)

    @cached_property
    def html(self) -> str:
        """Static and escaped, with inline styles; long things are shortened with a count."""
        return _sendable(self.view.html())

    @cached_property
    def text(self) -> str:
        """For a terminal."""
        return _sendable(self.view.text())

    def __str__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def frame_of(rows: Sequence[Row], columns: Sequence[str], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table whose columns have these dtypes, also where it has no rows."""
    import pandas as pd

    from nbllama.notebook.table import Table

    # `str` where pandas is 3, else `object`; its own `string` would not compare like either.
    text = pd.Series(["a"]).dtype
    frame = Table(rows, columns=list(columns))
    return frame.astype({name: text if kind == TEXT else kind for name, kind in dtypes.items()})


def _sendable(text: str) -> str:
    """Half a character pair, which a model's JSON escape can bring, has no UTF-8 form: an output may not hold it."""
    return text.encode(errors="replace").decode()
