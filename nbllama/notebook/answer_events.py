"""An answer's events as they come in, for a cell or a fork."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

from nbllama.wire.sse import ServerSentEvent
from nbllama.worker import connection
from nbllama.worker.connection import REQUEST_ID_HEADER, Endpoint


@contextlib.contextmanager
def answer_events(
    endpoint: Endpoint,
    body: dict[str, Any],
    own_id: str,
    on_headers: Callable[[dict[str, str]], None],
    *,
    path: str = "/v1/messages",
) -> Iterator[Iterator[ServerSentEvent]]:
    """Asks at the first event that is taken, and lets nothing go on when it is left.

    A worker takes `own_id` as the request's id. Raises ApiError, WorkerError."""
    headers = {REQUEST_ID_HEADER: own_id} if endpoint.is_worker else None
    events = connection.stream_events(endpoint, body, headers, on_headers=on_headers, path=path)
    # Closed in any case: a traceback would keep it open, and the model at work.
    with contextlib.closing(cast("Generator[ServerSentEvent]", events)):
        yield events
