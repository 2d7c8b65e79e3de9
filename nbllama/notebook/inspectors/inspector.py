"""What all inspectors have in common."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from nbllama.notebook.errors import TraceError
from nbllama.notebook.saving import write
from nbllama.views.page import frame
from nbllama.views.view import Row, View

if TYPE_CHECKING:
    import pandas as pd

V = TypeVar("V", bound=View, covariant=True)

TEXT = "text"
"""The dtype of a column of text: what this pandas makes of one by itself."""


class Inspector(Generic[V]):
    """One view of a request. As the last line of a cell it shows itself; static, so that it outlives its kernel.

    `of` says what it is about, in the title of a saved page. `dtypes` are those of every column of `df`."""

    dtypes: ClassVar[Mapping[str, str]]

    def __init__(self, view: V, of: str = "") -> None:
        self.view = view
        self.of = of

    @cached_property
    def df(self) -> pd.DataFrame:
        """All rows, unshortened, as an ordinary DataFrame. What a column means is in docs/traces.md."""
        return frame_of(self.view.rows(), self.view.columns, self.dtypes)

    @cached_property
    def html(self) -> str:
        """Static and escaped, with inline styles; long things are shortened with a count."""
        # Half a character pair, which a model's JSON escape can bring, has no UTF-8 form: an output may not hold it.
        return self.view.html().encode(errors="replace").decode()

    @cached_property
    def text(self) -> str:
        """For a terminal."""
        return self.view.text().encode(errors="replace").decode()

    def save(self, path: str | Path) -> Path:
        """Writes the view as an HTML file that needs nothing else. Nothing is covered in it: `trace.to_html` does."""
        title = f"{self.view.title}: {self.of}" if self.of else self.view.title
        return write(path, frame(title, self.html).encode())

    def widget(self) -> Any:
        """The live view, in ipywidgets; it needs a running kernel. Raises TraceError without ipywidgets."""
        return getattr(widgets(), self.view.name)(*self._for_widget())

    def _for_widget(self) -> tuple[Any, ...]:
        return (self.view,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.of!r})"

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


def widgets() -> Any:
    """The package of live views. Raises TraceError if ipywidgets is missing."""
    try:
        return importlib.import_module("nbllama.notebook.widgets")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nbllama"):
            raise
        raise TraceError(
            f"a widget needs {error.name}, which is not installed: `%pip install ipywidgets`, then restart the "
            "kernel; without it the static view shows the same"
        ) from error
