"""The key that opens `/v1/*` at every door of this user, and nothing else: a file of its own, 0600.

Jupyter's token runs code; a client of a model needs no more than the model. The file is read at each request that
brings a key, so that doors that run refuse a rotated key at once. On a Hub there is none: its tokens have scopes.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from nbllama.worker.errors import WorkerError

PREFIX = "nbllama-"
"""Tells it from Jupyter's tokens, for people and for scanners of secrets."""

_HUB_VARIABLES = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER", "JUPYTERHUB_SERVICE_PREFIX")
_MOST_BYTES = 4096


class KeyFileError(WorkerError):
    """The key's file cannot be made, or is not to be trusted."""


def on_a_hub() -> bool:
    """Whether a JupyterHub started this process, so that its tokens are the keys."""
    return any(os.environ.get(name) for name in _HUB_VARIABLES)


def key_file() -> Path:
    return Path(jupyter_data_dir(), "nbllama", "key")


def ensure_key() -> str:
    """The key, made at the first call. Raises KeyFileError on a Hub, and for a file that is not this user's alone."""
    _refuse_on_a_hub()
    return _read(key_file()) or _write(key_file(), replace=False)


def rotate_key() -> str:
    """A new key in place of the old one, whatever is there. Raises KeyFileError."""
    _refuse_on_a_hub()
    return _write(key_file(), replace=True)


def opens(presented: Iterable[bytes]) -> bool:
    """Whether one of the keys that a request brings is the key, compared in constant time. Never makes one."""
    found = list(presented)
    if not found or on_a_hub():
        return False
    try:
        key = _read(key_file())
    except KeyFileError:
        return False
    return key is not None and matches(found, key)


def matches(presented: Iterable[bytes], key: str) -> bool:
    """Whether one of `presented` is `key`; the time it takes does not tell how much of it is right."""
    expected = key.encode()
    return any([hmac.compare_digest(one, expected) for one in presented])


def presented_keys(api_key: str | None, authorization: str | None) -> list[bytes]:
    """The keys that a request brings; some clients send theirs in both headers."""
    scheme, _, bearer = (authorization or "").partition(" ")
    found = [api_key or "", bearer.strip() if scheme.lower() in ("bearer", "token") else ""]
    # Tornado reads headers as Latin-1: so these are the bytes that came.
    return [key.encode("latin1", "replace") for key in found if key]


def _refuse_on_a_hub() -> None:
    if on_a_hub():
        raise KeyFileError("on a Hub there is no key of nbllama's: use a token of the Hub (Token page, /hub/token)")


def _read(path: Path) -> str | None:
    """None if there is none yet. Raises KeyFileError if others can read it, or it is not ours."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            _check(path, os.fstat(file.fileno()))
            text = file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}; make another: nbllama key --rotate") from error
    return text or None


def _check(path: Path, found: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        raise KeyFileError(f"{path} is not a file of yours; remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeyFileError(f"{path} can be read by others, so its key is void; make another: nbllama key --rotate")


def _write(path: Path, *, replace: bool) -> str:
    """Puts a new key there in one step; without `replace`, the key of whoever was there first."""
    key = PREFIX + secrets.token_urlsafe(32)
    fresh = path.with_name(f".key-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key + "\n")
        try:
            _put(fresh, path, replace=replace)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
    return _read(path) or key


def _put(fresh: Path, path: Path, *, replace: bool) -> None:
    if replace or (path.exists() and not path.read_bytes().strip()):
        os.replace(fresh, path)
        return
    try:
        # Unlike a replacement, a link fails where another process was faster: both then have its key.
        os.link(fresh, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        os.replace(fresh, path)
