"""A request as one HTML file that needs nothing else: to attach to a bug report, or to look at in a browser.

No script, no address that is called, at most 2 MB, keys, absolute paths and e-mail addresses covered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from nbllama._version import __version__
from nbllama.views import every, markup
from nbllama.views.masking import covered_record
from nbllama.views.reading import Reading, Record
from nbllama.views.view import Row, View, missing
from nbllama.wire.records import RequestRecord

MOST_BYTES = 2_000_000
MOST_LISTED = 1000
_JSON_CHARS = 20_000
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the page may do, for its own head and for a server's header: nothing but be shown."""

_LISTED = ("created", "model", "ending", "prompt_tokens", "cached_tokens", "output_tokens", "total_s")


def page(record: Record, *, before: Record | None = None, context: int | None = None, masked: bool = True) -> str:
    """All views of a request. `before` is an earlier request to compare with, `context` the model's in tokens."""
    shown, earlier = (_masked(record), before and _masked(before)) if masked else (record, before)
    reading = Reading(shown)
    names = [name for name in every.NAMES if name != "cache" or earlier is not None or reading.prompt_ids]
    title = f"Request {reading.text('id')}"
    links = " · ".join(f'<a href="#{name}">{name}</a>' for name in names)
    note = (
        "Keys, absolute paths and e-mail addresses are covered with •; look through it before you send it. "
        if masked
        else ""
    )
    head = [markup.sentences([f"{note}Written by nbllama {__version__}."]), f"<div>{links}</div>", _overview(reading)]
    ends = _request(reading)
    room = MOST_BYTES - sum(map(_size, (*head, ends))) - 4000
    sections = []
    for name in names:
        section = _section(name, every.view_of(name, shown, before=earlier, context=context), room)
        room -= _size(section)
        sections.append(section)
    return frame(title, "".join([*head, *sections, ends]))


def view_page(view: View, id: str) -> str:
    """One view in a page of its own, with links to the others as a server has them."""
    links = [f'<a href="{name}">{name}</a>' if name != view.name else f"<b>{name}</b>" for name in every.NAMES]
    links += ['<a href="page">all in one file</a>', '<a href="../../traces">all requests</a>']
    return frame(f"Request {id}", f"<div>{' · '.join(links)}</div>{view.html()}")


def list_page(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The requests that are kept, newest first, with links to their views, below `traces/`."""
    lines = []
    for summary in summaries[:MOST_LISTED]:
        id = str(summary.get("id", ""))
        link = f'<a href="traces/{quote(id, safe="")}/tokens">{markup.plain(id)}</a>'
        row: Row = {**summary, "created": _when(summary.get("created"))}
        lines.append(markup.html_cell(link) + "".join(markup.cell(row.get(name)) for name in _LISTED))
    said = f"{len(summaries):,} requests are kept, newest first." if lines else "No request is kept yet."
    if len(lines) < len(summaries):
        said += f" These are the newest {len(lines):,}."
    table = markup.html_table(("request", *_LISTED), lines) if lines else ""
    return frame("Requests", markup.static(markup.sentences([said]) + table))


def frame(title: str, body: str) -> str:
    """A whole document around a body; light or dark as the reader's browser has it."""
    style = "font-family:system-ui,Helvetica,Arial,sans-serif;max-width:1060px;margin:0 auto;padding:12px 20px"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{markup.plain(title)}</title></head><body style="{style}">'
        f'<h1 style="font-size:150%">{markup.plain(title)}</h1>{body}</body></html>'
    )


def _section(name: str, view: View, room: int) -> str:
    """A view with a line above it; in words where its picture would be too large for the page."""
    top = f'<hr style="margin:18px 0 8px 0"><div id="{name}"></div>'
    html = view.html()
    if _size(html) > room:
        shorter = [*view.summary()[:20], "The rest was left out: this page would be too large."]
        html = markup.static(markup.heading(view.title) + markup.sentences(line[:500] for line in shorter))
    return top + html


def _overview(reading: Reading) -> str:
    error = reading.mapping("error")
    facts = {
        "model": reading.model,
        "when": _when(reading.number("created")),
        "ending": reading.text("ending") or missing("ending"),
        "error": f"{error.get('type')}: {error.get('message')}" if error else None,
        "ignored": ", ".join(reading.texts("ignored")) or None,
    }
    rows = [{"what": name, "value": value} for name, value in facts.items() if value]
    rows += [{"what": "warning", "value": warning} for warning in reading.warnings]
    return markup.static(markup.table(("what", "value"), rows))


def _request(reading: Reading) -> str:
    parts = [
        markup.folded(f"The {what}, as JSON", markup.block(_json(reading.mapping(name)), _JSON_CHARS))
        for name, what in (("request", "request"), ("message", "answer"))
        if reading.mapping(name)
    ]
    return markup.static("".join(['<hr style="margin:18px 0 8px 0">', *parts]))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _masked(record: Record) -> dict[str, Any]:
    return covered_record(record.to_dict() if isinstance(record, RequestRecord) else record)


def _when(created: Any) -> str | None:
    if not isinstance(created, int | float):
        return None
    try:
        return f"{datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return None


def _size(html: str) -> int:
    return len(html.encode(errors="replace"))
