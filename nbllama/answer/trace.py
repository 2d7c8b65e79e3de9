"""Keeps the records of requests: in memory, bounded in number and bytes, each client's own."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from typing import Any

from nbllama.wire.errors import NotFound
from nbllama.wire.records import SCHEMA_VERSION, TRACES_OFF, RequestRecord

LARGEST_SHARE = 4
"""One record may take this part of all bytes (1/4): a huge request must not drive all others out."""
CUT = "this trace was too large to keep whole: {} left out"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A record as a reader is sent it, which takes far less memory than its objects, and what lists say of it."""

    client: str
    message_id: str
    summary: dict[str, Any]
    data: bytes


class TraceStore:
    """The newest records. `max_count` 0 keeps none. Event loop only. Counts the bytes of the records' JSON."""

    def __init__(self, *, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_record = max_bytes // LARGEST_SHARE
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._n_bytes = 0

    @property
    def keeps(self) -> bool:
        """Whether records are kept at all."""
        return self._max_count > 0

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def request(self, sent: dict[str, Any], n_bytes: int) -> tuple[dict[str, Any], list[str]]:
        """What a record is to hold of a request of that many bytes while it runs, and the warnings about it."""
        if self._max_count <= 0:
            return {}, []
        if n_bytes <= self._max_record // 2:
            return sent, []
        short = {name: value for name, value in sent.items() if isinstance(value, bool | int | float | None)}
        return short, [CUT.format("request")]

    def add(self, record: RequestRecord) -> None:
        """Keeps a finished record, cut where it is too large, and forgets the oldest ones beyond the bounds."""
        if self._max_count <= 0:
            return
        summary, data = record.summary(), self._encoded(record)
        if data is None:
            return
        if replaced := self._kept.pop(record.id, None):
            self._n_bytes -= len(replaced.data)
        self._kept[record.id] = _Kept(record.client, record.message_id, summary, data)
        self._n_bytes += len(data)
        while len(self._kept) > self._max_count or self._n_bytes > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._n_bytes -= len(gone.data)

    def get(self, id: str, client: str) -> dict[str, Any]:
        """The record of a request or message id. Raises NotFound, also for another client's."""
        if self._max_count <= 0:
            raise NotFound(TRACES_OFF)
        for request_id, kept in reversed(self._kept.items()):
            if id in (request_id, kept.message_id) and kept.client == client:
                record: dict[str, Any] = json.loads(kept.data)
                return record
        raise NotFound(f"no trace {id}: it is another client's, was too old to keep, or never was")

    def summaries(self, client: str) -> list[dict[str, Any]]:
        """Short descriptions of a client's records, newest first."""
        return [kept.summary for kept in reversed(self._kept.values()) if kept.client == client]

    def _encoded(self, record: RequestRecord) -> bytes | None:
        """The record's JSON; without its prompt, then without its request and answer where it is too large."""
        # The JSON of 10 million ids would stop every stream for seconds: estimated first.
        if len(record.prompt) + 6 * len(record.prompt_ids) > self._max_record:
            record = _without(record, "prompt", prompt="", prompt_ids=[], spans=[])
        for _ in range(2):
            data = _json(record)
            if len(data) <= self._max_record:
                return data
            rest: dict[str, Any] = {"events": [], "message": None, "output_ids": [], "output_text": "", "request": {}}
            rest |= {"prompt": "", "prompt_ids": [], "spans": [], "parser_steps": []}
            record = _without(record, "prompt, request and answer", **rest)
        data = _json(record)
        return data if len(data) <= self._max_record else None


def _without(record: RequestRecord, what: str, **changes: Any) -> RequestRecord:
    return replace(record, warnings=[*record.warnings, CUT.format(what)], **changes)


def _json(record: RequestRecord) -> bytes:
    # Not of `to_dict`, which copies: 46 ms for a prompt of 30,000 tokens, in which no other stream moves.
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return json.dumps({"schema_version": SCHEMA_VERSION, **values}).encode()
