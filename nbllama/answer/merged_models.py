"""A published base with our adapter merged into it: made on this machine at first use, kept in the models' cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from pathlib import Path

from nbllama.answer.published_models import Adapter, cache_folder

log = logging.getLogger(__name__)

FOLDER = "merged"
"""In the models' cache. What is in it is made again when it is missing."""
FORM = "1"
"""Of what is written. Another number, and files of the form before are made anew."""


def merged_file(base: Path, adapter: Adapter) -> Path | None:
    """The file, which is written where it is not there yet: blocks for seconds, 129 MB for `smollm2`.

    None where it cannot be written, which the log says in one line: base and adapter do the same, slower. Raises
    LoadFailed where the adapter does not fit and ModelError where a file of it is missing. `base` was checked."""
    template = adapter.chat_template()
    with adapter.path.open("rb") as file:
        ours = hashlib.file_digest(file, "sha256").hexdigest()
    key = hashlib.sha256("\n".join((FORM, adapter.base_sha256, ours, template)).encode()).hexdigest()
    folder, stem = cache_folder() / FOLDER, f"{adapter.name}-{key[:16]}"
    if (found := _found(folder, stem)) is not None:
        return found
    try:
        target = _write(base, adapter, template, folder, stem)
    except (OSError, ImportError) as error:
        # Where a second worker was faster and has it open, Windows lets nobody replace it.
        if (found := _found(folder, stem)) is not None:
            return found
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        log.warning("%s cannot be written (%s): the adapter is used beside its base, slower", folder / stem, reason)
        return None
    _drop_older(target, adapter)
    return target


def _found(folder: Path, stem: str) -> Path | None:
    return next((path for path in folder.glob(f"{stem}-*.gguf") if _is_whole(path)), None)


def _is_whole(path: Path) -> bool:
    """Whether the file is as long as it was when it was written, which its name tells."""
    try:
        return path.stat().st_size == int(path.stem.rpartition("-")[2])
    except (OSError, ValueError):
        return False


def _write(base: Path, adapter: Adapter, template: str, folder: Path, stem: str) -> Path:
    from nbllama.engine.merging import merge

    folder.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: a worker that ends meanwhile, or a second one, leaves nothing half written.
    handle, name = tempfile.mkstemp(prefix=".half-", dir=folder)
    os.close(handle)
    half = Path(name)
    try:
        merge(base, adapter.path, half, base_sha256=adapter.base_sha256, chat_template=template)
        with half.open("r+b") as file:
            os.fsync(file.fileno())
        return half.replace(folder / f"{stem}-{half.stat().st_size}.gguf")
    finally:
        half.unlink(missing_ok=True)


def _drop_older(kept: Path, adapter: Adapter) -> None:
    """Files of earlier adapters, which live on where they are loaded, and halves that nobody writes any more."""
    hour_ago = time.time() - 3600
    for path in (*kept.parent.glob(f"{adapter.name}-*.gguf"), *kept.parent.glob(".half-*")):
        with contextlib.suppress(OSError):
            if path != kept and (path.suffix or path.stat().st_mtime < hour_ago):
                path.unlink()
