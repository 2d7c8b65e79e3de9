"""A trace as a file that a lesson ships: `trace.save(path)`, `nbllama.trace(path)`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbllama.notebook.errors import TraceError
from nbllama.notebook.saving import read, write
from nbllama.views.masked_tokens import without_secrets
from nbllama.wire.records import RequestRecord

NAMES = (".json", ".json.gz")


def is_file_name(text: str) -> bool:
    """Whether it names a file, not a request: ids have neither dots nor slashes."""
    return text.lower().endswith(NAMES) or "." in text or "/" in text or os.sep in text


def save(record: Mapping[str, Any], path: str | Path, *, masked: bool) -> Path:
    """The path that was written. Raises TraceError."""
    from nbllama.wire import trace_file

    name = os.fspath(path)
    if not name.lower().endswith(NAMES):
        raise TraceError(f"{name}: a trace is saved as {' or '.join(NAMES)}")
    kept = RequestRecord.from_dict(without_secrets(record) if masked else dict(record))
    return write(path, trace_file.encode(kept, compressed=trace_file.is_compressed_name(name)))


def load(path: str | Path) -> dict[str, Any]:
    """The record of a file. Raises TraceError if it cannot be read, is no trace, or is a later version's."""
    from nbllama.wire import trace_file

    try:
        return trace_file.decode(read(path, trace_file.MAX_BYTES), Path(path).name).to_dict()
    except trace_file.TraceFileError as error:
        raise TraceError(str(error)) from error
