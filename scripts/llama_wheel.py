"""Builds llama-cpp-python for this machine, and keeps the wheel where the next clone finds it.

Strategy. Everything happens in one folder of the user's cache, named by a digest of what the result depends on:
version, flags, processor, compiler. (pip's own cache knows none of the last three: a home folder that moves to
another processor would bring back a library that dies by an illegal instruction.) The source is unpacked there and
ninja builds beside it, so a build that was interrupted goes on with the files that are still missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import machine
from progress import Failed, run

VERSION = "0.3.36"
"""The version that the tests ran with."""

FLAGS = "-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__"
"""Without AMX: on processors that have it, the library's first decode is a segmentation fault
(docs/decisions/no-amx.md)."""


def key() -> str:
    """A digest of everything that the built library depends on."""
    return hashlib.sha256(json.dumps(_inputs(), sort_keys=True).encode()).hexdigest()[:16]


def folder() -> Path:
    """Where this machine's wheel is kept, and built; it may not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    wheels = os.environ.get("NBLLAMA_WHEELS") or Path(cache, "nbllama", "wheels")
    return Path(wheels).expanduser().absolute() / key()


def cached() -> Path | None:
    """The wheel for this machine, if it was built before."""
    return next(iter(sorted(folder().glob("llama_cpp_python-*.whl"))), None)


def build(python: Path) -> Path:
    """Builds the wheel (3 to 6 minutes on two processors) with `python`'s pip. Raises Failed."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    with _lock(place / "lock"):
        found = cached()
        if found:
            return found
        (place / "inputs.json").write_text(json.dumps(_inputs(), indent=2) + "\n", encoding="utf-8")
        source = _source(place, python)
        wheel = _compile(place, source, python)
        final = place / wheel.name
        os.replace(wheel, final)
        for leftover in ("download", "source", "build", "out"):
            shutil.rmtree(place / leftover, ignore_errors=True)
        return final


def _inputs() -> dict[str, str]:
    return {
        "version": VERSION,
        "flags": _flags(),
        "processor": machine.processor(),
        "compiler": machine.compiler(),
        "system": sys.platform,
    }


def _flags() -> str:
    """The user's come last and win, for example CMAKE_ARGS=-DGGML_CUDA=on."""
    return f"{FLAGS} {os.environ.get('CMAKE_ARGS', '')}".strip()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Two clones that are set up at once build once; the operating system frees the lock if the holder dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("   another set-up is building it; waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _source(place: Path, python: Path) -> Path:
    """The unpacked source distribution, as `source/llama_cpp_python-VERSION`."""
    ready = place / "source" / "ready"
    if not ready.exists():
        shutil.rmtree(place / "source", ignore_errors=True)
        download = place / "download"
        wanted = ["--no-deps", "--no-binary=llama-cpp-python", "--dest", str(download), f"llama-cpp-python=={VERSION}"]
        run([*_pip(python, "download"), *wanted], what="downloading the source", log=place / "build.log")
        with tarfile.open(next(download.glob("*.tar.gz"))) as archive:
            # Old Pythons have no filter; pip has checked the digest of the archive.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(place / "source")
        ready.touch()
    return next(path for path in (place / "source").iterdir() if path.is_dir())


def _compile(place: Path, source: Path, python: Path) -> Path:
    jobs = machine.build_jobs()
    print(f"   {jobs} compiler{'s' if jobs > 1 else ''} side by side; log: {place / 'build.log'}", flush=True)
    env = {**os.environ, "CMAKE_ARGS": _flags(), "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
    out = place / "out"
    command = [*_pip(python, "wheel"), "--no-deps", "--verbose", "--wheel-dir", str(out)]
    command += ["--config-settings", f"build-dir={place / 'build'}", str(source)]
    run(command, what="compiling", log=place / "build.log", env=env, show=_ninja_line)
    wheel = next(out.glob("llama_cpp_python-*.whl"), None)
    if wheel is None:
        raise Failed(f"building llama-cpp-python left no wheel; see {place / 'build.log'}")
    return wheel


def _pip(python: Path, command: str) -> list[str]:
    return [str(python), "-m", "pip", command, "--disable-pip-version-check", "--no-input"]


def _ninja_line(line: str) -> str | None:
    """`[57/193] /usr/bin/c++ …` → `compiling: 57 of 193 files`."""
    found = re.match(r"\s*\[(\d+)/(\d+)\] ", line)
    return f"compiling: {found[1]} of {found[2]} files" if found else None
