"""HTTP by hand: what no client library would send."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from dataclasses import dataclass
from typing import Any

PATIENCE = 60.0


@dataclass(frozen=True)
class Door:
    """Where a door listens, and what opens it. `prefix` is the path below which its routes are."""

    address: str | tuple[str, int]
    headers: str = ""
    prefix: str = ""

    def connect(self) -> socket.socket:
        if isinstance(self.address, tuple):
            return socket.create_connection(self.address, timeout=PATIENCE)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(self.address)
        return connection

    def head(self, method: str, path: str, *lines: str, key: str | None = None, version: str = "1.1") -> bytes:
        opening = self.headers if key is None else key
        target = path if "://" in path else self.prefix + path
        start = f"{method} {target} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n{opening}"
        return (start + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin1")

    def post(self, path: str, body: bytes, *lines: str, method: str = "POST", key: str | None = None) -> Reply:
        return self.send(self.head(method, path, f"Content-Length: {len(body)}", *lines, key=key) + body)

    def send(self, data: bytes) -> Reply:
        """Sends all that the door takes, and reads until it closes or the answer is whole."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return Reply(read_answer(connection))


def read_answer(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            received += piece
            if is_whole(received):
                break
    return received


def is_whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    # `attach` has no end: its headers are its answer.
    endless = b"text/plain" in head and b"chunked" in head
    return bool(separator) and (endless or (length is not None and len(body) >= int(length[1])))


class Reply:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin1").split("\r\n")
        self.status = int(lines[0].split()[1]) if raw else 0
        pairs = [line.partition(":") for line in lines[1:]]
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def check(self, *allowed: int, bodiless: bool = False) -> None:
        """That the status is among `allowed`, an error in the API's shape, and nothing of ours told."""
        assert self.status in allowed, self.raw[:600]
        assert b"Traceback" not in self.raw and b"site-packages" not in self.raw, self.raw[:2000]
        if self.status >= 400 and not bodiless:
            answer = self.json
            assert answer["type"] == "error" and isinstance(answer["error"]["message"], str), answer
            assert re.fullmatch("req_[0-9A-Za-z]{24}", answer["request_id"]), answer
            assert answer["request_id"] == self.headers["request-id"], self.raw[:600]
            assert self.headers["content-type"].startswith("application/json"), self.headers
        if 400 <= self.status < 500:
            assert self.headers["x-should-retry"] == "false", self.headers
