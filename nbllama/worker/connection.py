"""The client side of the worker: find it, start it, talk to it. For kernels, doors and the terminal.

Standard library, `wire` and errors only: it works in an environment without llama_cpp and tornado.

    endpoint = connection.discover()                 # or ensure(), or find()
    with connection.attach(endpoint):                # the worker stays while we are here
        for event in connection.stream_events(endpoint, body): ...
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nbllama._version import __version__
from nbllama.wire.errors import ApiError
from nbllama.worker import starting
from nbllama.worker.client_http import (
    REQUEST_ID_HEADER,
    SECRET_HEADER,
    Attachment,
    Endpoint,
    attach,
    error_from,
    open_connection,
    request_json,
    stream_events,
)
from nbllama.worker.errors import WorkerError
from nbllama.worker.finding import find, handshake
from nbllama.worker.other_workers import OtherWorker, other_workers
from nbllama.worker.runtime_dir import PROTOCOL, locked, runtime_dir, start_lock
from nbllama.worker.starting import absolute_reference

__all__ = [
    "PROTOCOL",
    "REQUEST_ID_HEADER",
    "SECRET_HEADER",
    "Attachment",
    "Endpoint",
    "OtherWorker",
    "absolute_reference",
    "attach",
    "discover",
    "ensure",
    "error_from",
    "find",
    "handshake",
    "open_connection",
    "other_workers",
    "request_json",
    "runtime_dir",
    "stop",
    "stream_events",
    "wait_until_gone",
]

OnWait = Callable[[str], None]


def discover(*, on_wait: OnWait | None = None, timeout: float = 120) -> Endpoint:
    """Where a kernel's requests go: NBLLAMA_BASE_URL (with NBLLAMA_API_KEY), else this host's worker, else a new one.

    Raises WorkerError."""
    base_url = os.environ.get("NBLLAMA_BASE_URL")
    if base_url:
        return Endpoint(base_url.rstrip("/"), key=os.environ.get("NBLLAMA_API_KEY") or None)
    return ensure(on_wait=on_wait, timeout=timeout)


def ensure(
    *,
    model: str | None = None,
    ctx: int | None = None,
    on_wait: OnWait | None = None,
    timeout: float = 120,
) -> Endpoint:
    """This user's worker on this host, started if there is none. Blocks up to `timeout` seconds.

    `model` and `ctx` (tokens) are the defaults of a worker that is started here; one that runs keeps its own, and is
    asked for another model with POST /nbllama/load. `on_wait` is given a sentence when there is something to wait for.
    A worker of this environment but another version of nbllama drains and is replaced. Raises WorkerError."""
    found = find()
    if found is not None and not _outdated(found):
        return found
    say = on_wait or _silent
    with locked(start_lock(), timeout=timeout):
        found = find()
        if found is not None and _outdated(found):
            say(f"replacing the worker of nbllama {found.info.get('version')}")
            stop(found)
            found = None
        return found or starting.start(model=model, ctx=ctx, on_wait=say, timeout=timeout)


def stop(endpoint: Endpoint, *, if_idle: bool = False) -> bool:
    """Asks a worker to drain and end; with `if_idle` only if nobody is attached and nothing runs. Says whether it will.

    When this returns True, the worker is no longer found, though it may still be finishing answers."""
    try:
        answer = request_json(endpoint, "POST", "/nbllama/stop", {"if_idle": if_idle})
    except (WorkerError, ApiError):
        return find() is None
    return bool(answer.get("stopping"))


def wait_until_gone(endpoint: Endpoint, *, timeout: float = 60) -> bool:
    """Whether the worker stopped answering within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while handshake(endpoint) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _outdated(endpoint: Endpoint) -> bool:
    return starting.same_environment(endpoint) and endpoint.info.get("version") != __version__


def _silent(_: str) -> None:
    pass
