"""A trace as a file: JSON with the schema's version, gzipped where it is wished. Bytes in, bytes out.

Older files load: what they do not have is at its default. A later version's is refused, for its fields may mean
something else.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nbllama.errors import NbllamaError
from nbllama.wire.records import SCHEMA_VERSION, RequestRecord

KIND = "nbllama trace"
MAX_BYTES = 256 << 20
"""Of a file's JSON: the worker keeps at most 16 MB of a request, and a small gzip may hold a whole memory."""
_MAGIC = b"\x1f\x8b"
_RECORD = TypeAdapter(RequestRecord)


class TraceFileError(NbllamaError):
    """A file that is no trace, or one that this version cannot read."""


def encode(record: RequestRecord, *, compressed: bool) -> bytes:
    """The file of a record. The same record gives the same bytes."""
    data = {"kind": KIND, "schema_version": SCHEMA_VERSION, **_values(record)}
    # As ASCII: a record may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    text = json.dumps(data, indent=None if compressed else 1).encode("ascii")
    return gzip.compress(text, mtime=0) if compressed else text


def is_compressed_name(name: str) -> bool:
    """Whether a file of this name is gzipped."""
    return name.lower().endswith(".gz")


def decode(data: bytes, name: str) -> RequestRecord:
    """The record of a file's bytes, gzipped or not; `name` is the file's, for the sentence of a TraceFileError."""
    try:
        value = json.loads(unpacked(data, name))
    except (ValueError, RecursionError) as error:
        raise TraceFileError(f"{name} is no trace: it holds no JSON ({_short(error)})") from error
    if not isinstance(value, dict) or value.get("kind", KIND) != KIND or "schema_version" not in value:
        raise TraceFileError(f"{name} is no trace of nbllama's: it names no schema_version")
    version = value["schema_version"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise TraceFileError(f"{name} is no trace: its schema_version is {_short(version)}")
    if version > SCHEMA_VERSION:
        raise TraceFileError(
            f"{name} was saved by a later nbllama (schema version {version}, this one reads {SCHEMA_VERSION} and"
            " older): upgrade nbllama to open it"
        )
    known = {field.name for field in fields(RequestRecord)}
    try:
        return _RECORD.validate_python({key: part for key, part in value.items() if key in known})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise TraceFileError(f"{name} is no trace: {place}: {first['msg']}") from error


def _values(record: RequestRecord) -> dict[str, Any]:
    """Not `asdict`, which copies everything."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def unpacked(data: bytes, name: str, what: str = "trace") -> bytes:
    """The JSON of a file that may be gzipped, at most MAX_BYTES. Raises TraceFileError."""
    if not data.startswith(_MAGIC):
        text = data[: MAX_BYTES + 1]
    else:
        unpacking = zlib.decompressobj(wbits=31)
        try:
            text = unpacking.decompress(data, MAX_BYTES + 1)
        except zlib.error as error:
            raise TraceFileError(f"{name} is no {what}: its gzip is broken ({error})") from error
        if not unpacking.eof and len(text) <= MAX_BYTES:
            raise TraceFileError(f"{name} is no {what}: its gzip is cut off")
    if len(text) > MAX_BYTES:
        raise TraceFileError(f"{name} is too large for a {what}: more than {MAX_BYTES >> 20} MB")
    return text


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
