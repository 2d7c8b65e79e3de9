"""What all inspectors have in common."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from nbllama.notebook.errors import TraceError
from nbllama.notebook.inspectors.shown_view import ShownView, V
from nbllama.notebook.saving import write
from nbllama.views.page import frame


class Inspector(ShownView[V]):
    """One view of a request, which can be saved and made live. `of` says what it is about, in a saved page's title."""

    def __init__(self, view: V, of: str = "") -> None:
        super().__init__(view)
        self.of = of

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
