"""The live side of the views, in ipywidgets as they come: a function for each, which takes the view and gives a widget.

ipywidgets is imported here and nowhere else, so only when a widget is asked for.
"""

from __future__ import annotations

try:
    import ipywidgets as _  # type: ignore[import-untyped]  # noqa: F401
except ImportError as error:
    raise ModuleNotFoundError(
        "widgets need ipywidgets: `%pip install ipywidgets`, then restart the kernel and reload the page; the static "
        "view shows the same without it",
        name="ipywidgets",
    ) from error

from nbllama.notebook.widgets.cache_widget import cache
from nbllama.notebook.widgets.calls_widget import calls
from nbllama.notebook.widgets.events_widget import events
from nbllama.notebook.widgets.probabilities_widget import probabilities
from nbllama.notebook.widgets.timing_widget import timing
from nbllama.notebook.widgets.tokens_widget import tokens

__all__ = ["cache", "calls", "events", "probabilities", "timing", "tokens"]
