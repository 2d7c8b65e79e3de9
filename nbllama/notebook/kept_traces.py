"""The records that a server keeps of this user's requests: one, or the list of them."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from nbllama.errors import NbllamaError
from nbllama.notebook.errors import TraceError
from nbllama.notebook.kernel_link import link
from nbllama.wire.errors import ApiError, NotFound
from nbllama.wire.records import TRACES_OFF
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

# A record is complete a moment after the last byte of its answer, or after its client has gone.
_TRIES = 40
_PAUSE = 0.05


def traces_endpoint() -> Endpoint:
    """The server that keeps this kernel's traces. Raises TraceError."""
    try:
        return link.endpoint()
    except NbllamaError as error:
        raise TraceError(f"no traces: {error}") from error


def summaries(endpoint: Endpoint) -> list[dict[str, Any]]:
    """A few fields of each record that is kept, newest first. Raises TraceError."""
    try:
        return list(connection.request_json(endpoint, "GET", "/nbllama/traces")["traces"])
    except NbllamaError as error:
        raise TraceError(f"no traces: {error}") from error


def fetch(endpoint: Endpoint, id: str, *, tries: int | None = None) -> dict[str, Any]:
    """A record; one that may still be written is waited for, unless there is one of the `tries` only.

    Raises TraceError."""
    left = (tries or _TRIES) if endpoint.is_worker else 1
    while True:
        left -= 1
        try:
            return connection.request_json(endpoint, "GET", f"/nbllama/traces/{quote(id, safe='')}")
        except NotFound as error:
            if TRACES_OFF in str(error):
                raise TraceError(f"no trace of {id}: {TRACES_OFF}") from error
            if not left:
                raise TraceError(
                    f"no trace of {id}: it is still running, too old to keep, or not yours; "
                    "`nbllama.traces()` lists those that are kept"
                ) from error
        except ApiError as error:
            raise TraceError(f"no trace of {id}: {error}") from error
        except NbllamaError as error:
            raise TraceError(f"no trace of {id}: {error}; traces end with the worker that kept them") from error
        time.sleep(_PAUSE)
