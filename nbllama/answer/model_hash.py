"""Which model a file is, for who must not mix up two that were loaded under one name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nbllama.answer.model_sources import ModelSource

READ_BYTES = 1 << 20
"""Of each end of a file: its metadata and vocabulary are at its beginning, tensors that any training changes at its
end. All of a file of some gigabytes would take seconds at each load."""


def model_hash(source: ModelSource) -> str:
    """Of the model's file and of what is laid on it: their sizes and ends. Empty if a file cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for path in (source.path, *([source.adapter.path] if source.adapter else [])):
            _add(digest, path)
    except OSError:
        return ""
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8))
    with path.open("rb") as file:
        digest.update(file.read(READ_BYTES))
        file.seek(max(0, size - READ_BYTES))
        digest.update(file.read(READ_BYTES))
