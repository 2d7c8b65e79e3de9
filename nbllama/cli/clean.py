"""`nbllama clean`: removes what nbllama put on this machine, apart from itself: models, wheels, keys, sockets, logs."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import stat
import sys
from pathlib import Path

from nbllama.cli.amounts import count, size
from nbllama.errors import NbllamaError

_LOCK_SECONDS = 5.0
_RUNTIME_NAMES = re.compile(r"\.?nbllama-p\d+\..*|p\d+-\d+\.sock|\.?(interpreter|crashes|library-trial)\.json.*")


class CleanError(NbllamaError):
    """Nothing, or not everything, was removed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    from nbllama.worker.runtime_dir import locked, start_lock

    _refuse_while_one_runs()
    found = _found()
    for path, what in found:
        n_files, n_bytes = _content(path)
        print(f"{size(n_bytes):>10}  {count(n_files, 'file'):<9}  {path}  ({what})")
    if not found:
        print("there is nothing to remove")
    elif not args.yes and not _agreed():
        print("nothing was removed")
        return 1
    # Nobody starts a worker meanwhile, as a notebook may have while the question was on the screen.
    with locked(lock := start_lock(), timeout=_LOCK_SECONDS):
        _refuse_while_one_runs()
        for path, _ in found:
            _remove(path)
    _remove(lock)
    _remove_empty_folders()
    if found:
        print("removed")
    return 0


def _refuse_while_one_runs() -> None:
    from nbllama.worker import connection

    running = connection.find()
    pids = [running.pid] if running is not None else []
    pids += [other.pid for other in connection.other_workers()]
    if pids:
        raise CleanError(f"a worker is running (pid {pids[0]}); end it first: nbllama stop")


def _found() -> list[tuple[Path, str]]:
    return [*_models(), *_wheels(), *_rest_of_the_cache(), *_keys(), *_runtime()]


def _models() -> list[tuple[Path, str]]:
    """A folder that $NBLLAMA_MODELS names may hold the user's own models: there only those that we fetched are ours."""
    from nbllama.answer.merged_models import FOLDER
    from nbllama.answer.published_models import PUBLISHED, cache_folder

    folder = cache_folder()
    ours = {FOLDER, *(one.file for one in PUBLISHED.values())}
    everything = folder == _cache() / "models"
    found = [path for path in _entries(folder) if everything or path.name in ours or path.name.startswith(".get-")]
    return [(path, "a model in the cache") for path in found]


def _wheels() -> list[tuple[Path, str]]:
    """As scripts/llama_wheel.py keeps them: a folder for each kind of build, with what it depends on beside it."""
    folder = Path(os.environ.get("NBLLAMA_WHEELS") or _cache() / "wheels").expanduser().absolute()
    everything = folder == _cache() / "wheels"
    found = [path for path in _entries(folder) if everything or (path / "inputs.json").is_file()]
    return [(path, "llama.cpp, built for this machine") for path in found]


def _rest_of_the_cache() -> list[tuple[Path, str]]:
    rest = [path for path in _entries(_cache()) if path.name not in ("models", "wheels")]
    return [(path, "in the cache") for path in rest]


def _keys() -> list[tuple[Path, str]]:
    """The key that `nbllama key` hands out, and the one that signs thinking. New ones are made when they are needed."""
    return [(path, "a key") for path in _entries(_data())]


def _runtime() -> list[tuple[Path, str]]:
    """The start lock is left out: it is held while the others go."""
    from nbllama.worker.runtime_dir import runtime_dir, start_lock

    everything = "NBLLAMA_RUNTIME_DIR" not in os.environ
    entries = [path for path in _entries(runtime_dir()) if path != start_lock()]
    return [(path, "the worker's") for path in entries if everything or _RUNTIME_NAMES.fullmatch(path.name)]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nbllama").absolute()


def _data() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir(), "nbllama")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CleanError(f"{folder} cannot be read: {error.strerror}") from error


def _content(path: Path) -> tuple[int, int]:
    """Files and their bytes; links are not followed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    found = [file.lstat() for file in inside]
    sizes = [one.st_size for one in found if not stat.S_ISDIR(one.st_mode)]
    return len(sizes), sum(sizes)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise CleanError("there is nobody to ask; run: nbllama clean --yes")
    return input("Remove all of it? [y/N] ").strip().lower() in ("y", "yes")


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CleanError(f"{error.filename or path} could not be removed: {error.strerror or error}") from error


def _remove_empty_folders() -> None:
    """Only those that we made; one that is not empty has something of somebody else's."""
    from nbllama.worker.runtime_dir import runtime_dir

    for folder in (_cache() / "models", _cache() / "wheels", _cache(), _data(), runtime_dir()):
        with contextlib.suppress(OSError):
            folder.rmdir()
