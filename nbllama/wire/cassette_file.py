"""A cassette as a file: what was asked and what was answered, several requests with their traces. JSON, or gzip of it.

Bytes in, bytes out; who writes the file and who plays it is in `nbllama/cassettes/`. Older files load; a later
version's is refused. The file of one trace (`trace_file.py`) loads as the cassette of one request.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nbllama._version import __version__
from nbllama.errors import NbllamaError
from nbllama.wire import trace_file
from nbllama.wire.records import SCHEMA_VERSION as RECORD_VERSION
from nbllama.wire.records import RequestRecord

KIND = "nbllama cassette"
SCHEMA_VERSION = 1
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"


class CassetteError(NbllamaError):
    """A file that is no cassette, one that this version cannot read, or one that cannot be written."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    `path` is MESSAGES or COUNT_TOKENS, `request` the body that was sent. `status` is HTTP's;
    `headers` are those of an error that steer retries. `answer` is the JSON that was answered where that is no Message:
    a count, or an error's body. `record` is the trace of a message, whose `request` is kept here alone; of an error it
    may be missing."""

    path: str
    request: dict[str, Any]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer: dict[str, Any] | None = None
    record: RequestRecord | None = None

    @property
    def model(self) -> str:
        """Which model answered, else what was asked for."""
        return (self.record.model_id if self.record is not None else "") or str(self.request.get("model") or "")


@dataclass(slots=True)
class Cassette:
    """`created` in unix seconds; `models` are entries of `/v1/models`, as they were told when it was recorded."""

    created: float = 0.0
    nbllama: str = __version__
    models: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)


_CASSETTE = TypeAdapter(Cassette)


def exchange_json(exchange: Exchange) -> str:
    """One entry of a file's list. A recorder keeps it, and puts files together from such texts."""
    values: dict[str, Any] = {name.name: getattr(exchange, name.name) for name in fields(exchange)}
    if (record := exchange.record) is not None:
        kept = {name.name: getattr(record, name.name) for name in fields(record) if name.name != "request"}
        values["record"] = {"schema_version": RECORD_VERSION, **kept}
    empty = () if exchange.headers else ("headers",)
    # As ASCII: a record may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    return json.dumps({name: value for name, value in values.items() if value is not None and name not in empty})


def encode(cassette: Cassette, *, compressed: bool, exchanges: Sequence[str] | None = None) -> bytes:
    """The file of a cassette; `exchanges` are its own as `exchange_json` gave them, if that was done already.

    One exchange a line, so that two files can be compared. The same cassette gives the same bytes."""
    lines = [exchange_json(one) for one in cassette.exchanges] if exchanges is None else exchanges
    head: dict[str, Any] = {"kind": KIND, "schema_version": SCHEMA_VERSION}
    head |= {"nbllama": cassette.nbllama, "created": cassette.created, "models": cassette.models}
    text = json.dumps(head)[:-1] + ', "exchanges": [' + ",".join(f"\n{line}" for line in lines) + "\n]}\n"
    return gzip.compress(text.encode("ascii"), mtime=0) if compressed else text.encode("ascii")


def decode(data: bytes, name: str) -> Cassette:
    """The cassette of a file's bytes, gzipped or not; `name` is the file's, for the sentence of a CassetteError."""
    value = _object(data, name)
    if value.get("kind") == trace_file.KIND:
        return _of_trace(data, name)
    version = value.get("schema_version")
    if value.get("kind") != KIND or isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CassetteError(f"{name} is no cassette: it is JSON, but no recording of nbllama's")
    if version > SCHEMA_VERSION:
        raise CassetteError(
            f"{name} was recorded by a later nbllama (schema version {version}, this one reads {SCHEMA_VERSION} and"
            " older): upgrade nbllama to replay it"
        )
    try:
        cassette = _CASSETTE.validate_python({key: part for key, part in value.items() if key in _KNOWN})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CassetteError(f"{name} is no cassette: {place}: {first['msg']}") from error
    for n, exchange in enumerate(cassette.exchanges):
        _complete(exchange, f"{name} is no cassette: exchanges.{n}")
    return cassette


_KNOWN = {name.name for name in fields(Cassette)}


def _object(data: bytes, name: str) -> Mapping[str, Any]:
    if not data:
        raise CassetteError(f"{name} is no cassette: it is empty")
    try:
        value = json.loads(trace_file.unpacked(data, name, "cassette"))
    except trace_file.TraceFileError as error:
        raise CassetteError(str(error)) from error
    except (ValueError, RecursionError) as error:
        what = "it is cut off or changed" if KIND.encode() in data[:100] else "it holds no JSON"
        raise CassetteError(f"{name} is no cassette: {what} ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise CassetteError(f"{name} is no cassette: it is JSON, but no recording of nbllama's")
    return value


def _complete(exchange: Exchange, where: str) -> None:
    """Raises CassetteError for an exchange that has no answer."""
    record = exchange.record
    if record is not None:
        record.request = exchange.request
        for event in record.events:
            timed = len(event) == 2 and isinstance(event[0], int | float) and isinstance(event[1], dict)
            if not timed or not isinstance(event[1].get("type"), str):
                raise CassetteError(f"{where}.record.events: each is [seconds, event]")
    told = exchange.answer is not None or (
        exchange.path == MESSAGES and exchange.status < 400 and record is not None and bool(record.events)
    )
    if not told or not 200 <= exchange.status <= 599:
        raise CassetteError(f"{where}: it holds no answer")


def _of_trace(data: bytes, name: str) -> Cassette:
    try:
        record = trace_file.decode(data, name)
    except trace_file.TraceFileError as error:
        raise CassetteError(str(error)) from error
    exchange = Exchange(MESSAGES, record.request, record=record)
    if not record.events and record.error is not None:
        exchange.status, exchange.answer = 500, {"type": "error", "error": record.error}
    _complete(exchange, f"{name} is the trace of a request without an answer")
    return Cassette(created=record.created, exchanges=[exchange])
