"""Records as pages for a browser: the same HTML that a notebook shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbllama.views import every
from nbllama.views.comparison import Comparison
from nbllama.views.page import POLICY, list_page, page, view_page
from nbllama.views.tree import MOST_ANSWERS, Tree
from nbllama.wire.errors import ApiError, NotFound
from nbllama.worker.endpoint import Endpoint

if TYPE_CHECKING:
    from nbllama.answer.service import Service

ALL = "page"
MOST_COMPARED = 5
"""Earlier requests among which the one is looked for whose prompt this one goes on with."""

Record = Mapping[str, Any]


class PageEndpoint(Endpoint):
    """Pages run nothing and call nobody, whatever a model wrote into them."""

    def answer_html(self, html: str) -> None:
        self.set_header("content-type", "text/html; charset=utf-8")
        self.set_header("content-security-policy", f"{POLICY}; frame-ancestors 'self'")
        self.set_header("x-content-type-options", "nosniff")
        self.set_header("referrer-policy", "no-referrer")
        self.set_header("cache-control", "no-store")
        # Half a character pair, which a model's JSON escape can bring, has no UTF-8 form.
        self.finish(html.encode(errors="replace"))


class TracesEndpoint(PageEndpoint):
    """A browser, which asks for HTML, gets a page; everybody else JSON."""

    def get(self) -> None:
        traces = self.worker.service.traces(self.client)
        self.set_header("vary", "accept")
        if "text/html" in self.request.headers.get("accept", ""):
            self.answer_html(list_page(traces))
        else:
            self.answer_json({"traces": traces})


class TraceViewEndpoint(PageEndpoint):
    """`VIEW` is a name of the views', or `page`: all of them in one file. `?with=ID` says what to compare with."""

    async def get(self, id: str, view: str) -> None:
        service, client = self.worker.service, self.client
        if view not in (*every.NAMES, ALL):
            raise NotFound(f"no view {view}: there are {', '.join((*every.NAMES, ALL))}")
        record = await asyncio.to_thread(_read, service.trace_data(id, client))
        named = self.get_query_argument("with", None)
        others: list[bytes] = []
        if view in ("cache", ALL):
            others = [service.trace_data(named, client)] if named else _earlier(service, record, client)
        self.answer_html(await asyncio.to_thread(_html, view, record, others))


class TreeEndpoint(PageEndpoint):
    """An answer among those that were forked from it, and from which it was."""

    async def get(self, id: str) -> None:
        service, client = self.worker.service, self.client
        record = await asyncio.to_thread(_read, service.trace_data(id, client))
        data = [service.trace_data(one, client) for one in family(record["id"], service.traces(client))]
        self.answer_html(await asyncio.to_thread(lambda: view_page(Tree(list(map(_read, data))), record["id"])))


def family(id: str, newest_first: Sequence[Record]) -> list[str]:
    """The ids of all that have one origin with `id`, oldest first, as far as they are among these; itself at least."""
    origins = {str(one["id"]): one.get("forked_from") for one in newest_first}
    roots: dict[str, str] = {}
    for one in reversed(origins):
        # A fork is younger than its origin, so that one's root is known already.
        origin = origins[one]
        roots[one] = roots.get(str(origin), str(origin)) if origin else one
    found = [one for one, root in roots.items() if root == roots.get(id)]
    return (found[:1] + found[1:][-(MOST_ANSWERS - 1) :]) or [id]


def _read(data: bytes) -> Record:
    record: Record = json.loads(data)
    return record


def _html(view: str, record: Record, data: list[bytes]) -> str:
    """Off the event loop: of a prompt of a megabyte it takes a second. `data` are the records to compare with."""
    others = map(_read, data)
    before = max(others, key=lambda other: Comparison(other, record).shared, default=None)
    if view == ALL:
        return page(record, before=before)
    return view_page(every.view_of(view, record, before=before), str(record.get("id", "")))


def _earlier(service: Service, record: Record, client: str) -> list[bytes]:
    """What the record itself says it was compared with, else the client's requests before it at the same model."""
    reuse = record.get("reuse")
    said = reuse.get("compared_with") if isinstance(reuse, Mapping) else None
    if isinstance(said, str):
        try:
            return [service.trace_data(said, client)]
        except ApiError:
            # It is forgotten, or another client's.
            pass
    ids = [one["id"] for one in service.traces(client) if one.get("model") == record.get("model")]
    place = ids.index(record["id"]) if record.get("id") in ids else len(ids)
    return [service.trace_data(id, client) for id in ids[place + 1 : place + 1 + MOST_COMPARED]]
