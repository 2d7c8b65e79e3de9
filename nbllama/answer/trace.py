"""Keeps the records of requests: in memory, bounded in number and bytes, each client's own."""

from __future__ import annotations

import json
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

from nbllama.engine.slots import common_prefix
from nbllama.wire.errors import NotFound
from nbllama.wire.records import SCHEMA_VERSION, TRACES_OFF, RequestRecord

LARGEST_SHARE = 4
"""One record may take this part of all bytes (1/4): a huge request must not drive all others out."""
COMPARED = 16
"""A prompt is compared with so many earlier ones, an agent's and its side questions: 0.6 ms for 30,000 tokens each."""
CUT = "this trace was too large to keep whole: {} left out"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A record as a reader is sent it, which takes far less memory than its objects, and what lists say of it.

    `ids` are those of its prompt and of its answer."""

    client: str
    message_id: str
    model_id: str
    summary: dict[str, Any]
    data: bytes
    ids: array[int]

    @property
    def n_bytes(self) -> int:
        return len(self.data) + self.ids.itemsize * len(self.ids)


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
            self._n_bytes -= replaced.n_bytes
        ids = array("i", record.prompt_ids + record.output_ids)
        if ids.itemsize * len(ids) > self._max_record:
            ids = array("i")
        kept = _Kept(record.client, record.message_id, record.model_id, summary, data, ids)
        self._kept[record.id] = kept
        self._n_bytes += kept.n_bytes
        while len(self._kept) > self._max_count or self._n_bytes > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._n_bytes -= gone.n_bytes

    def get(self, id: str, client: str) -> dict[str, Any]:
        """The record of a request or message id. Raises NotFound, also for another client's."""
        record: dict[str, Any] = json.loads(self.data(id, client))
        return record

    def data(self, id: str, client: str) -> bytes:
        """The same as JSON in ASCII, at once: to read 16 MB takes as long as a step. Raises NotFound."""
        if self._max_count <= 0:
            raise NotFound(TRACES_OFF)
        for request_id, kept in reversed(self._kept.items()):
            if id in (request_id, kept.message_id) and kept.client == client:
                return kept.data
        raise NotFound(f"no trace {id}: it is another client's, was too old to keep, or never was")

    def closest(self, record: RequestRecord) -> tuple[str, int | None] | None:
        """Which of the client's last records of this model begins most like `record`'s prompt, prompt and answer taken
        together, and the first token that is another one or not there; None for the whole prompt. None without any."""
        others = [(id, kept.ids) for id, kept in self._latest(record) if kept.ids]
        if not others:
            return None
        ids = array("i", record.prompt_ids)
        found, n = max(((id, common_prefix(other, ids)) for id, other in others), key=lambda pair: pair[1])
        return found, n if n < len(ids) else None

    def summaries(self, client: str) -> list[dict[str, Any]]:
        """Short descriptions of a client's records, newest first."""
        return [kept.summary for kept in reversed(self._kept.values()) if kept.client == client]

    def _latest(self, record: RequestRecord) -> Iterator[tuple[str, _Kept]]:
        """The client's newest ones of the same model, newest first."""
        wanted = (record.client, record.model_id)
        mine = (pair for pair in reversed(self._kept.items()) if (pair[1].client, pair[1].model_id) == wanted)
        yield from islice(mine, COMPARED)

    def _encoded(self, record: RequestRecord) -> bytes | None:
        """The record's JSON; without its prompt, its probabilities, then its request and answer if it is too large."""
        # The JSON of 10 million ids would stop every stream for seconds: estimated first.
        if len(record.prompt) + 12 * len(record.prompt_ids) > self._max_record:
            record = _without(record, "prompt", **_NO_PROMPT, pieces=_pieces_of(ids_of_answer(record), record))
        cuts: list[tuple[str, dict[str, Any]]] = [("prompt, request and answer", _NO_PROMPT | _NO_ANSWER)]
        if record.probabilities:
            written = _pieces_of([*record.prompt_ids, *record.output_ids], record)
            cuts.insert(0, ("probabilities", {"probabilities": [], "pieces": written}))
        for name, cut in cuts:
            data = _json(record)
            if len(data) <= self._max_record:
                return data
            record = _without(record, name, **cut)
        data = _json(record)
        return data if len(data) <= self._max_record else None


_NO_PROMPT: dict[str, Any] = {"prompt": "", "prompt_ids": [], "prompt_offsets": [], "spans": []}
_NO_ANSWER: dict[str, Any] = {
    "events": [],
    "message": None,
    "output_ids": [],
    "output_text": "",
    "parser_steps": [],
    "pieces": {},
    "prefill": [],
    "probabilities": [],
    "request": {},
    "special": [],
    "token_times": [],
}


def ids_of_answer(record: RequestRecord) -> set[int]:
    """What was generated, and what might have been where that was asked for."""
    found = set(record.output_ids)
    for told in record.probabilities:
        found.update(id for name in ("top", "raw_top") for id, _ in told.get(name) or ())
    return found


def _pieces_of(ids: Iterable[int], record: RequestRecord) -> dict[str, str]:
    wanted = set(map(str, ids))
    return {id: piece for id, piece in record.pieces.items() if id in wanted}


def _without(record: RequestRecord, what: str, **changes: Any) -> RequestRecord:
    return replace(record, warnings=[*record.warnings, CUT.format(what)], **changes)


def _json(record: RequestRecord) -> bytes:
    # Not of `to_dict`, which copies: 46 ms for a prompt of 30,000 tokens, in which no other stream moves.
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return json.dumps({"schema_version": SCHEMA_VERSION, **values}).encode()
