"""The folder where a user's worker is found on this host: `/tmp/nbllama-<uid>`, 0700.

Not `$XDG_RUNTIME_DIR`: it differs between login, cron, systemd and ssh, so two models would run. Everything in a
world-writable folder is suspect, so each path is checked for owner and link before it is trusted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbllama.worker.errors import WorkerError

PROTOCOL = 1
"""Worker and clients of the same number understand each other; the version is only reported."""

MAX_SOCKET_PATH = 103
"""`sun_path` has 104 bytes on macOS (108 on Linux), one of them the final zero."""


def runtime_dir() -> Path:
    """The folder, made if missing. Raises WorkerError if it is a link, another user's, or open to others."""
    path = _location()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise unusable(path, error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise WorkerError(f"{path} is not a folder; remove it")
    _check_owner(path, found)
    if sys.platform != "win32" and stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def connection_file() -> Path:
    return runtime_dir() / f"nbllama-p{PROTOCOL}.json"


def start_lock() -> Path:
    """Held by whoever starts a worker, until it answers."""
    return runtime_dir() / f"nbllama-p{PROTOCOL}.lock"


def publish_lock() -> Path:
    """Held by a worker while it writes or removes the connection file."""
    return runtime_dir() / f"nbllama-p{PROTOCOL}.publish.lock"


def log_file() -> Path:
    return runtime_dir() / f"nbllama-p{PROTOCOL}.log"


def interpreter_file() -> Path:
    """Names the last interpreter that was seen with llama_cpp."""
    return runtime_dir() / "interpreter.json"


def socket_path(pid: int) -> Path:
    """Each worker's own, so that one that drains is never in the way of the one that replaces it.

    Raises WorkerError if the path is too long for the operating system."""
    path = runtime_dir() / f"p{PROTOCOL}-{pid}.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise WorkerError(f"{path} is longer than {MAX_SOCKET_PATH} characters, too long for a Unix socket")
    return path


def read_json(path: Path) -> dict[str, Any] | None:
    """A file of ours; None if it is missing or no JSON object. Raises WorkerError if it is not ours to trust."""
    data = _read_own(path)
    try:
        value = json.loads(data) if data is not None else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces a file of ours in one step (0600). Raises WorkerError if something foreign is in its place."""
    check_own(path, stat.S_IFREG)
    try:
        _replace(path, json.dumps(value))
    except OSError as error:
        raise unusable(path.parent, error) from error


def unusable(folder: Path, error: OSError) -> WorkerError:
    """What to say when the folder cannot be made, or nothing can be written there: full, read-only, forbidden."""
    reason = error.strerror or str(error)
    return WorkerError(
        f"{folder} cannot be used as the runtime folder: {reason}; make it writable, with some room, "
        "or name another folder in NBLLAMA_RUNTIME_DIR (the same for all your programs)"
    )


def remove_socket(path: Path) -> None:
    """Removes a socket that a dead worker left. Raises WorkerError if something else is in its place."""
    if check_own(path, stat.S_IFSOCK):
        path.unlink(missing_ok=True)


def remove_dead_sockets() -> None:
    """Removes the sockets of workers that no longer exist. Whatever else lies there is left alone."""
    for path in runtime_dir().glob("p*-*.sock"):
        pid = path.stem.rpartition("-")[2]
        if pid.isdecimal() and not _exists(int(pid)):
            with contextlib.suppress(WorkerError):
                remove_socket(path)


def remove_half_written() -> None:
    """Removes what a worker left that was killed within `write_json`. The caller holds the publish lock."""
    for target in (connection_file(), interpreter_file()):
        for path in target.parent.glob(f".{target.name}.*"):
            path.unlink(missing_ok=True)


def check_own(path: Path, kind: int) -> bool:
    """Whether something is at `path`. Raises WorkerError if it is a link, of another kind or another user's."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_IFMT(found.st_mode) != kind:
        raise WorkerError(f"{path} is not what nbllama puts there; remove it")
    _check_owner(path, found)
    return True


def open_own(path: Path, flags: int) -> int:
    """Opens a plain file of ours, made 0600 if `flags` has O_CREAT; never through a link. Raises WorkerError."""
    check_own(path, stat.S_IFREG)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES):
            raise unusable(path.parent, error) from error
        raise WorkerError(f"{path} cannot be opened: {error.strerror}") from error
    _check_owner(path, os.fstat(descriptor))
    return descriptor


@contextlib.contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Holds a lock between processes; the operating system frees it if the holder dies. `timeout` in seconds.

    Raises WorkerError if another process held it all that time, or if something foreign is in its place."""
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise WorkerError(f"another process has been starting a worker for {timeout:.0f} s ({path})")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _location() -> Path:
    override = os.environ.get("NBLLAMA_RUNTIME_DIR")
    if override:
        return Path(override).absolute()
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / f"nbllama-{os.environ.get('USERNAME', 'user')}"
    return Path(f"/tmp/nbllama-{os.getuid()}")


def _check_owner(path: Path, found: os.stat_result) -> None:
    if sys.platform != "win32" and found.st_uid != os.getuid():
        raise WorkerError(f"{path} belongs to user {found.st_uid}, not to you; nbllama does not use it")


def _read_own(path: Path) -> bytes | None:
    if not check_own(path, stat.S_IFREG):
        return None
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except WorkerError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            # A worker that stops has removed it since we looked.
            return None
        raise
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether it is dead and only its parent has not noticed. False where /proc does not tell."""
    try:
        # The name, in parentheses, may hold anything: the state follows the last one.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
