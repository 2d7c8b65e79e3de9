"""The models of the server that is asked: which there are, what it says of one, and that in words."""

from __future__ import annotations

import contextlib
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook.near import near
from nbllama.wire.errors import NotFound
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

_SECONDS = 30.0
"""How long a server may take that is not loading a model for it."""


def model_ids(endpoint: Endpoint, *, timeout: float = _SECONDS) -> list[str]:
    """The default first. Raises NbllamaError."""
    listed = connection.request_json(endpoint, "GET", "/v1/models", timeout=timeout)["data"]
    return [str(model["id"]) for model in listed]


def model_of(endpoint: Endpoint, wanted: str) -> str:
    """The model to ask for. Refused with near matches if the server does not have it: raises NotFound."""
    ids = model_ids(endpoint)
    if wanted in ids or (not ids and wanted):
        return wanted
    if not wanted:
        if not ids:
            raise NotFound("the server has no model; `%llama load REF` loads one")
        return ids[0]
    hint = near(wanted, ids) or f"it has {', '.join(ids)}; `%llama load REF` loads another"
    raise NotFound(f"the server has no model {wanted!r}: {hint}")


def model_entries(endpoint: Endpoint, *, timeout: float = _SECONDS) -> list[dict[str, Any]]:
    """Those of the worker's status. Raises NbllamaError."""
    return list(connection.request_json(endpoint, "GET", "/nbllama/status", timeout=timeout).get("models", []))


def model_entry(endpoint: Endpoint, model: str) -> dict[str, Any]:
    """What the worker's status says of a model; empty where that is not to be had."""
    with contextlib.suppress(NbllamaError):
        return next((dict(entry) for entry in model_entries(endpoint) if entry["id"] == model), {})
    return {}


def size_of(model: dict[str, Any]) -> str:
    """A model's size, from its entry in the worker's status: "4.8 M parameters"."""
    if n_params := model.get("n_params"):
        unit = 1e9 if n_params >= 1e9 else 1e6
        return f"{n_params / unit:.1f} {'B' if unit == 1e9 else 'M'} parameters"
    if size := model.get("size_bytes"):
        return f"{size / 1e6:,.0f} MB"
    return ""


def adapter_of(model: dict[str, Any]) -> str:
    """What is laid on a model, from its entry in the worker's status; empty where nothing is."""
    adapter = model.get("adapter")
    if not adapter:
        return ""
    size = f"{adapter['size_bytes'] / 1e6:.1f} MB, " if adapter.get("size_bytes") else ""
    return f"adapter {adapter['name']} ({size}for the base {adapter['base_sha256'][:8]}…)"


def model_line(model: dict[str, Any]) -> str:
    """A model of a worker's status on one line."""
    context = f"context {model['n_ctx']:,} tokens" if model.get("n_ctx") else ""
    default = "default" if model.get("default") else ""
    state = f"loading {model.get('load', 0):.0%}" if model["state"] == "loading" else model["state"]
    parts = [model["id"], state, size_of(model), adapter_of(model), context]
    parts += [model.get("device") or "", default, model.get("error") or ""]
    return ", ".join(part for part in parts if part)
