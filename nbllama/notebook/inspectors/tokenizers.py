"""Two tokenizers or more over one text."""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from nbllama.notebook.inspectors.inspector import Inspector, widgets
from nbllama.notebook.inspectors.shown_view import TEXT, frame_of
from nbllama.views.tokenizers import Tokenizers

if TYPE_CHECKING:
    import pandas as pd


class TokenizersInspector(Inspector[Tokenizers]):
    """`df` has a row for each token of each model, `counts` one for each model."""

    dtypes: ClassVar = {
        "model": TEXT,
        "i": "int64",
        "id": "Int64",
        "piece": TEXT,
        "bytes": TEXT,
        "special": "boolean",
        "start": "Int64",
        "same": "boolean",
    }

    @cached_property
    def counts(self) -> pd.DataFrame:
        """model, tokens, bytes_each and chars_each on average, same: tokens that every other model has there, too."""
        dtypes = {"model": TEXT, "tokens": "int64", "bytes_each": "float64", "chars_each": "float64", "same": "Int64"}
        return frame_of(self.view.counts(), tuple(dtypes), dtypes)

    def widget(self) -> Any:
        """A tab for each model, with its tokens."""
        live, stock = widgets(), importlib.import_module("ipywidgets")
        return stock.Tab(children=[live.tokens(view) for view in self.view.views], titles=self.view.names)
