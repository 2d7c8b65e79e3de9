"""Whether a file looks like a GGUF, before llama.cpp is asked to read it."""

from __future__ import annotations

from pathlib import Path

from nbllama.engine.errors import LoadFailed


def check_file(path: Path) -> None:
    """Raises LoadFailed unless `path` is a readable file that begins like a GGUF."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LoadFailed(f"cannot read {path}: {error.strerror or error}") from error
    if magic != b"GGUF":
        raise LoadFailed(f"{path} is not a GGUF file")
