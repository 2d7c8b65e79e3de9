"""`nbllama logs`: what the worker wrote. No prompt and no answer is in it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import TextIO

from nbllama.errors import NbllamaError

_POLL_SECONDS = 0.3


class NoLog(NbllamaError):
    """There is no log to show."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--lines", type=int, default=100, help="how many, from the end (default: %(default)s)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument("--path", action="store_true", help="only say where it is")


def run(args: argparse.Namespace) -> int:
    path = _log_file()
    if args.path:
        print(path)
        return 0
    if not path.exists():
        raise NoLog(f"there is no log yet ({path}): no worker has been started")
    file: TextIO = path.open(encoding="utf-8", errors="replace")
    sys.stdout.writelines(deque(file, maxlen=max(0, args.lines)))
    sys.stdout.flush()
    while args.follow:
        # Asked before the read: what the worker still wrote into a file that it then left is read once more.
        fresh = _successor(path, file)
        sys.stdout.write(file.read())
        if fresh is not None:
            file.close()
            file = fresh
            continue
        sys.stdout.flush()
        time.sleep(_POLL_SECONDS)
    file.close()
    return 0


def _successor(path: Path, file: TextIO) -> TextIO | None:
    """The file that has taken the place of the open one, if the worker has begun another."""
    here = os.fstat(file.fileno())
    try:
        there = path.stat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            return path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        # Between the two files; or `nbllama clean`, and then the next worker's comes.
        return None
    if there.st_size < file.tell():
        file.seek(0)
    return None


def _log_file() -> Path:
    """The log of the running worker; where none runs, that of the last one."""
    from nbllama.worker import connection, runtime_dir

    endpoint = connection.find()
    named = endpoint.info.get("log") if endpoint is not None else None
    return Path(named) if isinstance(named, str) else runtime_dir.log_file()
