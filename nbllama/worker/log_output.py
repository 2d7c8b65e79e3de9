"""Where the worker's log goes: to its standard error, which the starter made the log file, bounded in size.

Written without a buffer and without a care: a full disk loses lines, never the worker. What the C library and
faulthandler write goes the same way, so the file is changed below both: the descriptors are pointed at a new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path

MAX_BYTES = 4 << 20
"""Then the file becomes `….log.1`, and what was there goes: twice this much is kept."""

_DESCRIPTORS = (1, 2)


class LogOutput(logging.Handler):
    """Writes to descriptor 2. `path` is turned over when it is what lies behind it and has `max_bytes`."""

    def __init__(self, path: Path | None, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._path = path
        self._max_bytes = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._turn_over()
        try:
            os.write(2, (self.format(record) + "\n").encode(errors="replace"))
        except OSError:
            # No room, or nobody there: there is no place left to say so.
            return
        except Exception:  # a bad format string: said where the others are, as the standard handlers do
            self.handleError(record)

    def _turn_over(self) -> None:
        if self._path is None:
            return
        here = os.fstat(2)
        if here.st_size < self._max_bytes or not _is(self._path, here):
            return
        os.replace(self._path, rotated(self._path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        fresh = os.open(self._path, flags, 0o600)
        try:
            for descriptor in _DESCRIPTORS:
                os.dup2(fresh, descriptor)
        finally:
            os.close(fresh)


def rotated(path: Path) -> Path:
    """What the log is called when the next one has begun."""
    return path.with_name(path.name + ".1")


def set_up(path: Path | None) -> None:
    """All logging of this process goes there."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    # A rename of an open file is not for Windows.
    root.addHandler(LogOutput(path if sys.platform != "win32" else None))


def _is(path: Path, here: os.stat_result) -> bool:
    """Whether the open file is still the one at that path; another worker may have turned it over."""
    there = path.lstat()
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
