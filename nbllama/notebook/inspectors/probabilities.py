"""`.probabilities()`: how sure the model was of each token, and what else it might have said."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT, frame_of
from nbllama.views.probabilities import Probabilities

if TYPE_CHECKING:
    import pandas as pd

    from nbllama.notebook.trace import Trace


class ProbabilitiesInspector(Inspector[Probabilities]):
    """`df` has a row for each generated token, `alternatives` one for each candidate of each."""

    dtypes: ClassVar = {
        "i": "int64",
        "id": "Int64",
        "piece": TEXT,
        "p": "float64",
        "logprob": "float64",
        "rank": "Int64",
        "entropy": "float64",
        "top": TEXT,
        "raw_p": "float64",
        "raw_top": TEXT,
        "removed": "float64",
        "forced": "boolean",
    }

    def __init__(self, view: Probabilities, trace: Trace) -> None:
        super().__init__(view, trace.id)
        self.trace = trace

    @cached_property
    def alternatives(self) -> pd.DataFrame:
        """The candidates of each token: i of the token, rank, id, piece, p from 0 to 1, whether it was chosen."""
        dtypes = {"i": "int64", "rank": "int64", "id": "int64", "piece": TEXT, "p": "float64", "chosen": "bool"}
        return frame_of(self.view.alternatives(), tuple(dtypes), dtypes)

    def _for_widget(self) -> tuple[Any, ...]:
        return (self.view, None if self.trace.from_file else self.trace.fork)
