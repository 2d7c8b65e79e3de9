"""`nbllama.traces()`: this user's last requests as a table, and their times side by side. Imports pandas."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nbllama.notebook.errors import TraceError
from nbllama.notebook.inspectors.shown_view import TEXT, frame_of
from nbllama.notebook.inspectors.timing import TimingInspector
from nbllama.notebook.kept_traces import fetch, summaries, traces_endpoint
from nbllama.notebook.table import Table
from nbllama.views.timing import Timing
from nbllama.worker import connection

_DTYPES = {
    "id": TEXT,
    "created": "float64",
    "model": TEXT,
    "ending": TEXT,
    "prompt": "Int64",
    "cached": "Int64",
    "output": "Int64",
    "total": "float64",
    "tok_s": "float64",
    "message": TEXT,
}
_SUMMARY = {
    "message": "message_id",
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
    "output": "output_tokens",
    "total": "total_s",
    "tok_s": "tokens_per_second",
}
"""What the worker's list calls these columns."""


class TraceTable(Table):
    """A DataFrame of requests; of any selection of its rows `timing()` tells where the time went."""

    @property
    def _constructor(self) -> type[TraceTable]:
        return TraceTable

    def timing(self) -> TimingInspector:
        """A row and a bar for each request of this table, in its order. Raises TraceError if no server can be asked.

        Of a request that is no longer kept only what this table says."""
        endpoint = traces_endpoint()
        rows = [{str(name): value for name, value in row.items()} for row in self.to_dict("records")]
        return TimingInspector(Timing([_record(row, endpoint) for row in rows]), f"{len(rows):,} requests")


def traces() -> TraceTable:
    """Your last requests, newest first, one row each. Raises TraceError if the server cannot be asked.

    created to the second, in UTC; prompt, cached and output in tokens, total in seconds, tok_s in tokens a second;
    message is the answer's id."""
    listed = summaries(traces_endpoint())
    rows = [{name: one.get(_SUMMARY.get(name, name)) for name in _DTYPES} for one in listed]
    table = TraceTable(frame_of(rows, tuple(_DTYPES), _DTYPES))
    table["created"] = pd.to_datetime(table["created"], unit="s", utc=True).dt.floor("s")
    return table


def _record(row: dict[str, Any], endpoint: connection.Endpoint) -> dict[str, Any]:
    try:
        return fetch(endpoint, row["id"], tries=1)
    except TraceError:
        times = {"total_s": row.get("total"), "tokens_per_second": row.get("tok_s")}
        known: dict[str, Any] = {name: row.get(name) for name in ("id", "model", "ending")}
        return known | {"timings": {name: float(value) for name, value in times.items() if pd.notna(value)}}
