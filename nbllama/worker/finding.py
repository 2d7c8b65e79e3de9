"""Is there a worker? The connection file says where; only an answer to the handshake says that it lives.

A pid proves nothing: a killed child is a zombie under the kernel that started it.
"""

from __future__ import annotations

from typing import Any

from nbllama.errors import NbllamaError
from nbllama.worker.client_http import Endpoint, request_json
from nbllama.worker.runtime_dir import PROTOCOL, connection_file, read_json

HANDSHAKE_TIMEOUT = 5.0
"""Seconds. Its event loop is never blocked for long, but the machine may be swapping."""


def find() -> Endpoint | None:
    """The worker that serves this user on this host, if it answers. Raises WorkerError for a suspicious file."""
    info = read_json(connection_file())
    endpoint = endpoint_of(info) if info is not None else None
    if endpoint is None or handshake(endpoint) is None:
        return None
    return endpoint


def handshake(endpoint: Endpoint) -> dict[str, Any] | None:
    """What the worker says of itself (protocol, version, pid, prefix); None if it is not there or not the one meant."""
    try:
        answer = request_json(endpoint, "GET", "/nbllama/handshake", timeout=HANDSHAKE_TIMEOUT)
    except NbllamaError:
        return None
    same = (answer.get("protocol"), answer.get("version"), answer.get("pid")) == (
        PROTOCOL,
        endpoint.info.get("version"),
        endpoint.pid,
    )
    return answer if same else None


def endpoint_of(info: dict[str, Any], protocol: int = PROTOCOL) -> Endpoint | None:
    """Where a connection file of that protocol says that its worker is; None if it does not."""
    pid, socket, port, secret = (info.get(name) for name in ("pid", "socket", "port", "secret"))
    if info.get("protocol") != protocol or not isinstance(pid, int):
        return None
    if isinstance(socket, str):
        return Endpoint("http://localhost", socket=socket, pid=pid, info=info)
    if isinstance(port, int) and isinstance(secret, str):
        return Endpoint(f"http://127.0.0.1:{port}", key=secret, pid=pid, info=info)
    return None
