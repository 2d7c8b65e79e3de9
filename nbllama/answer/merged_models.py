"""A published base with our adapter merged into it: made on this machine at first use, kept in the models' cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
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
    target = cache_folder() / FOLDER / f"{adapter.name}-{key[:16]}.gguf"
    if target.is_file():
        return target
    try:
        _write(base, adapter, template, target)
    except (OSError, ImportError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        log.warning("%s cannot be written (%s): the adapter is used beside its base, slower", target, reason)
        return None
    _drop_older(target, adapter)
    return target


def _write(base: Path, adapter: Adapter, template: str, target: Path) -> None:
    from nbllama.engine.merging import merge

    target.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: a worker that ends meanwhile, or a second one, leaves nothing half written.
    handle, name = tempfile.mkstemp(prefix=".half-", dir=target.parent)
    os.close(handle)
    half = Path(name)
    try:
        merge(base, adapter.path, half, base_sha256=adapter.base_sha256, chat_template=template)
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def _drop_older(kept: Path, adapter: Adapter) -> None:
    """A worker that has one of them loaded keeps it until it ends."""
    for path in kept.parent.glob(f"{adapter.name}-*.gguf"):
        if path != kept:
            with contextlib.suppress(OSError):
                path.unlink()
