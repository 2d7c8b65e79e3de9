"""`.timing()`: where the time went, of one request or of many."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT, frame_of
from nbllama.views.timing import Timing

if TYPE_CHECKING:
    import pandas as pd


class TimingInspector(Inspector[Timing]):
    """`df` has a row for each request, `tokens` one for each token of their answers. Seconds."""

    dtypes: ClassVar = {
        "id": TEXT,
        "model": TEXT,
        "ending": TEXT,
        "queue": "float64",
        "prefill": "float64",
        "first": "float64",
        "decode": "float64",
        "total": "float64",
        "prompt": "Int64",
        "cached": "Int64",
        "output": "Int64",
        "per_token": "float64",
        "tok_s": "float64",
        "prefill_tok_s": "float64",
    }

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """id of the request, i, time since the request was accepted, gap since the token before."""
        dtypes = {"id": TEXT, "i": "int64", "time": "float64", "gap": "float64"}
        return frame_of(self.view.token_rows(), tuple(dtypes), dtypes)
