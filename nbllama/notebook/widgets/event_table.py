"""Rows of the view of events as a table of HTML, for who shows some of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nbllama.views import markup
from nbllama.views.palette import GOOD, INK
from nbllama.views.view import Row, shorten

_COLUMNS = ("n", "time", "gap", "event", "index", "content")
_CHARS = 140


def event_table(rows: Iterable[Row], now: int | None = None) -> str:
    """`now` is the number of the event that is marked."""
    return markup.html_table(_COLUMNS, [_line(row, row["n"] == now) for row in rows], right=(*_COLUMNS[:3], "index"))


def _line(row: Row, now: bool) -> str:
    content = repr(row["text"]) if row["text"] is not None else _rest(row["payload"])
    name = markup.plain(row["event"])
    if now:
        mark = f"background:{GOOD};color:{INK};padding:0 3px;border-radius:3px;white-space:nowrap"
        name = f'<b style="{mark}">▶ {name}</b>'
    numbers = "".join(markup.cell(row[key], right=True) for key in _COLUMNS[:3])
    # A signature is one long word; the table would grow wider than the page with it.
    shown = f'<span style="overflow-wrap:anywhere">{markup.plain(shorten(content, _CHARS))}</span>'
    return numbers + markup.html_cell(name) + markup.cell(row["index"], right=True) + markup.html_cell(shown)


def _rest(payload: str) -> str:
    """What the other columns do not say of an event."""
    event = json.loads(payload)
    if not isinstance(event, dict):
        return payload
    more = {name: value for name, value in event.items() if name not in ("type", "index")}
    return json.dumps(more, ensure_ascii=False) if more else ""
