"""The file that is recorded to: written whole after each request, and put in place at once, never half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from nbllama.cassettes.masked import masked_exchange
from nbllama.wire.cassette_file import Cassette, CassetteError, Exchange, decode, encode, exchange_json
from nbllama.wire.trace_file import MAX_BYTES, is_compressed_name

MOST_BYTES = MAX_BYTES - (1 << 20)
"""Of all entries, so that the file with its head is one that loads."""
_MEGABYTES = MAX_BYTES >> 20


class Recording:
    """Safe from any thread. What is at `path` stays until the first request has been answered.

    `failure` is why the last one could not be written; the next one writes all of them again, unless it is full."""

    def __init__(self, path: Path) -> None:
        """Raises CassetteError if the file could not be written, or is something else than a cassette."""
        self.path = path
        self.failure = ""
        self.n_broken_off = 0
        self._cassette = Cassette(created=time.time())
        self._entries: list[str] = []
        self._lock = threading.Lock()
        self._known = b""
        self._n_bytes = 0
        self.n_replaced = self._look_at_what_is_there()
        _try_folder(path)

    @property
    def n_recorded(self) -> int:
        return len(self._entries)

    def models(self, models: list[dict[str, Any]]) -> None:
        """What `/v1/models` told; written with the next request."""
        self._cassette.models = models

    def broken_off(self) -> None:
        """Counts an answer that did not come to its end."""
        with self._lock:
            self.n_broken_off += 1

    def add(self, exchange: Exchange) -> None:
        """Masks and writes; a failure is kept and not raised, as the answer itself is there."""
        entry = exchange_json(masked_exchange(exchange))
        with self._lock:
            self._n_bytes += len(entry)
            if self._n_bytes > MOST_BYTES:
                # Replaying would refuse the file, with all that was recorded before.
                self.failure = (
                    f"{self.path} is full with {_MEGABYTES} MB, the last requests are not in it: record to another file"
                )
                return
            self._entries.append(entry)
            try:
                self.failure = self._write()
            except OSError as error:
                self.failure = f"{self.path} cannot be written: {error.strerror or error}"

    def _write(self) -> str:
        """Why it does not write, where it does not."""
        if self.path.exists() and _digest(self.path.read_bytes()) != self._known:
            # Another kernel that records to it: the one that writes last would be all that is left.
            return f"{self.path} was changed by somebody else and is left as it is: move it away, or take another name"
        compressed = is_compressed_name(self.path.name)
        data = encode(self._cassette, compressed=compressed, exchanges=self._entries)
        _replace(self.path, data)
        self._known = _digest(data)
        return ""

    def _look_at_what_is_there(self) -> int:
        """How many recordings it would replace."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise CassetteError(f"{self.path} cannot be recorded to: {error.strerror or error}") from error
        self._known = _digest(data)
        try:
            return len(decode(data, self.path.name).exchanges) if data else 0
        except CassetteError as error:
            raise CassetteError(
                f"{self.path} is there and is not replaced, as it is something else ({error}): take another name"
            ) from error


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _try_folder(path: Path) -> None:
    beside = _beside(path)
    try:
        beside.touch(exist_ok=False)
        beside.unlink()
    except OSError as error:
        raise CassetteError(f"{path} cannot be written: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    beside = _beside(path)
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
