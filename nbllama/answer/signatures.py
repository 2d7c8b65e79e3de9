"""Signatures of thinking: a client sends thinking back with one, and ours show whether it is still what was thought.

    base64("nbllama-2:" + key id (4 bytes) + HMAC-SHA256 of the text's SHA-256)

The key belongs to the installation. Thinking of another model or server is accepted, as it must be when a
conversation moves; only a text that was changed under a signature of this very key is refused.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from nbllama.wire.content import ThinkingBlock
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.requests import CountTokensRequest

_PREFIX = b"nbllama-2:"
_KEY_BYTES = 32


class Signer:
    """Signs digests and checks what comes back. Without a `key` it has one for its lifetime."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(_KEY_BYTES)
        self._id = hashlib.sha256(b"id:" + self._key).digest()[:4]

    def sign(self, digest: bytes) -> str:
        """The signature of a text by its SHA-256."""
        mac = hmac.new(self._key, digest, hashlib.sha256).digest()
        return base64.b64encode(_PREFIX + self._id + mac).decode()

    def check(self, request: CountTokensRequest) -> list[str]:
        """What is to be noted about thinking that comes back. Raises InvalidRequest for one that was changed."""
        notes = []
        for index, message in enumerate(request.messages):
            for position, block in enumerate(message.content):
                if not isinstance(block, ThinkingBlock):
                    continue
                place = f"messages.{index}.content.{position}"
                if not self._is_own(block.signature):
                    notes.append(f"{place}: thinking {'of another server' if block.signature else 'without signature'}")
                # Omitted thinking comes back empty: there is nothing to compare, and nothing that was changed.
                elif block.thinking and not self._fits(block):
                    raise InvalidRequest(f"{place}: Invalid `signature` in `thinking` block")
        return notes

    def _is_own(self, signature: str | None) -> bool:
        own = _PREFIX + self._id
        try:
            return base64.b64decode(signature or "", validate=True).startswith(own)
        except (binascii.Error, ValueError):
            return False

    def _fits(self, block: ThinkingBlock) -> bool:
        digest = hashlib.sha256(block.thinking.encode("utf-8", errors="replace")).digest()
        return hmac.compare_digest(self.sign(digest).encode(), (block.signature or "").encode())


def load_key(path: Path) -> bytes | None:
    """The key of this installation, made when there is none; None where it can be neither read nor written."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two workers may start at once: whoever links first has made it, and the other reads it.
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        if not path.exists():
            try:
                with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        key = path.read_bytes()
        return key if len(key) == _KEY_BYTES else None
    return None
