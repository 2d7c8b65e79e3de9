"""Files that a user names: what goes wrong with them, in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from nbllama.notebook.errors import TraceError


def write(path: str | Path, data: bytes) -> Path:
    """The path that was written; a file that is there is replaced. Raises TraceError."""
    target = Path(path).expanduser()
    try:
        target.write_bytes(data)
    except OSError as error:
        raise _cannot("write", path, error) from error
    return target


def read(path: str | Path, most: int) -> bytes:
    """A file's first `most` bytes, and one more where there are more. Raises TraceError."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise _cannot("read", path, error) from error


def _cannot(what: str, path: str | Path, error: OSError) -> TraceError:
    return TraceError(f"cannot {what} {os.fspath(path)}: {error.strerror or error}")
