"""Two streams of events side by side."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from nbllama.notebook.inspectors.inspector import Inspector, widgets
from nbllama.notebook.inspectors.shown_view import TEXT
from nbllama.views.streams_compared import StreamsCompared


class StreamsInspector(Inspector[StreamsCompared]):
    """`df` has a row for each event, and one for all deltas of a block that follow each other."""

    dtypes: ClassVar = {
        "what": TEXT,
        "event": TEXT,
        "index": "Int64",
        "kind": TEXT,
        "first": TEXT,
        "second": TEXT,
        "n_first": "int64",
        "n_second": "int64",
        "t_first": "float64",
        "t_second": "float64",
    }

    def widget(self) -> Any:
        """A tab for each stream."""
        live, stock = widgets(), importlib.import_module("ipywidgets")
        return stock.Tab(children=[live.events(view) for view in self.view.views], titles=("first", "second"))
