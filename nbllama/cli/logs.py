"""`nbllama logs`: what the worker wrote. No prompt and no answer is in it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path

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
    with path.open(encoding="utf-8", errors="replace") as file:
        sys.stdout.writelines(deque(file, maxlen=max(0, args.lines)))
        sys.stdout.flush()
        while args.follow:
            sys.stdout.write(file.read())
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
    return 0


def _log_file() -> Path:
    """The log of the running worker; where none runs, that of the last one."""
    from nbllama.worker import connection, runtime_dir

    endpoint = connection.find()
    named = endpoint.info.get("log") if endpoint is not None else None
    return Path(named) if isinstance(named, str) else runtime_dir.log_file()
