"""`%llama running` and `%llama cancel ID`: this user's own requests, whichever kernel or program asks them."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.answer_view import waiting_text
from nbllama.notebook.kernel_link import link
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

ALL = "all"


def running_text() -> str:
    """A line a request: id, model, what it does. Raises NbllamaError."""
    endpoint = link.running()
    requests = own_requests(endpoint) if endpoint is not None else []
    if not requests:
        return "nothing runs"
    lines = [f"{one['id']}  {one['model']}, {progress_of(one)}" for one in requests]
    return "\n".join([*lines, "→ %llama cancel ID ends one, %llama cancel all ends them all"])


def cancel_text(wanted: str) -> str:
    """Ends the request of this id, or whose id begins so; `all` ends each. Raises UsageError, NbllamaError."""
    endpoint = link.running()
    ids = [str(one["id"]) for one in own_requests(endpoint)] if endpoint is not None else []
    chosen = ids if wanted == ALL else [id for id in ids if id.startswith(wanted)]
    if len(chosen) > 1 and wanted != ALL and wanted not in chosen:
        raise UsageError(f"%llama cancel {wanted}: that is the beginning of {len(chosen)}: {', '.join(chosen)}")
    if endpoint is None or not chosen:
        there = f"there is {', '.join(ids)}" if ids else "nothing runs"
        if wanted == ALL:
            return there
        raise UsageError(f"%llama cancel {wanted}: you have no such request; {there}")
    for id in chosen:
        connection.request_json(endpoint, "POST", f"/nbllama/requests/{id}/cancel", {})
    return "\n".join(f"cancelled {id}" for id in chosen)


def own_requests(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Oldest first. Raises NbllamaError."""
    return list(connection.request_json(endpoint, "GET", "/nbllama/requests")["requests"])


def progress_of(request: dict[str, Any]) -> str:
    """What a request of a worker's status does now."""
    return waiting_text(request) if request.get("state") != "running" else "running"
