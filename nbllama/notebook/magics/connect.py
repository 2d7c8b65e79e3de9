"""`%llama connect` and `%llama claude`: how other programs reach this model, with the URL and key that hold here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook import claude_code
from nbllama.notebook.display import say
from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics.jupyter_server import parent_server
from nbllama.worker import api_key, connection

SERVE_URL = "http://127.0.0.1:8010"
"""Where `nbllama serve` listens if nothing else is said."""

TRY_SECONDS = 60.0

_HUB_KEY = "$JUPYTERHUB_API_TOKEN"


@dataclass(frozen=True)
class Door:
    """A base URL, without `/v1`. `shown` is the key as it is printed, `key` the one that tries are made with."""

    url: str
    shown: str
    key: str


def connect_text() -> str:
    """The lines for curl, the SDKs and Claude Code, and whether each way works. Raises NbllamaError."""
    door, model = _door(), _model()["id"]
    return "\n\n".join([*_lines(door, model), "\n".join(_tried(door, model))])


def claude_text(form: str) -> str:
    """The variables for Claude Code, in one of the forms of `claude_code.FORMS`. Raises NbllamaError."""
    door, model = _door(), _model()
    return claude_code.written(
        claude_code.environment(door.url, door.shown, model["id"], int(model.get("n_ctx") or 8192)), form
    )


def _door() -> Door:
    """This kernel's Jupyter server, or where `nbllama serve` would be."""
    server = parent_server()
    if api_key.on_a_hub():
        public = os.environ.get("JUPYTERHUB_PUBLIC_URL", "").rstrip("/")
        # A Hub's token is a secret with scopes of its own: the name of its variable is enough.
        return Door(public or (server.url if server else SERVE_URL), _HUB_KEY, server.token if server else "")
    key = api_key.ensure_key()
    # The alias holds wherever c.NbllamaApp.api_prefix points.
    candidates = [server.url, f"{server.url}/nbllama"] if server else [SERVE_URL]
    doors = [Door(url, key, key) for url in candidates]
    return next((door for door in doors if _try(door, "GET", "/v1/models", "x-api-key") == "ok"), doors[0])


def _model() -> dict[str, Any]:
    endpoint = link.endpoint(on_wait=say)
    first: dict[str, Any] = connection.request_json(endpoint, "GET", "/v1/models")["data"][0]
    if not endpoint.is_worker:
        return first
    loaded = connection.request_json(endpoint, "POST", "/nbllama/load", {"model": first["id"]}, timeout=None)
    return first | loaded


def _lines(door: Door, model: str) -> list[str]:
    message = {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]}
    return [
        f"curl\n  curl {door.url}/v1/messages -H 'x-api-key: {door.shown}' -H 'content-type: application/json' \\\n"
        f"    -d '{json.dumps(message)}'".replace(f"'x-api-key: {_HUB_KEY}'", f'"x-api-key: {_HUB_KEY}"'),
        f"Python\n  anthropic.Anthropic(base_url={door.url!r}, api_key={_in_python(door.shown)})",
        f"TypeScript\n  new Anthropic({{ baseURL: {json.dumps(door.url)}, apiKey: {_in_typescript(door.shown)} }})",
        f'Claude Code\n  ANTHROPIC_BASE_URL={door.url} ANTHROPIC_AUTH_TOKEN="{door.shown}" claude --model {model}\n'
        "  (nbllama claude does all of it; %llama claude prints every variable)",
    ]


def _in_python(shown: str) -> str:
    return f"os.environ[{shown[1:]!r}]" if shown == _HUB_KEY else repr(shown)


def _in_typescript(shown: str) -> str:
    return f"process.env.{shown[1:]}" if shown == _HUB_KEY else json.dumps(shown)


def _tried(door: Door, model: str) -> list[str]:
    """Each client as it sends its key: the Python SDK and Claude Code as Bearer, curl and TypeScript as x-api-key."""
    ways = {"curl": "x-api-key", "Python": "authorization", "TypeScript": "x-api-key", "Claude Code": "authorization"}
    found = {header: _try(door, "POST", "/v1/messages/count_tokens", header, model) for header in set(ways.values())}
    return [f"{name:<12} {found[header]}" for name, header in ways.items()]


def _try(door: Door, method: str, path: str, header: str, model: str = "") -> str:
    endpoint = connection.Endpoint(door.url)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]} if method == "POST" else None
    value = f"Bearer {door.key}" if header == "authorization" else door.key
    try:
        connection.request_json(endpoint, method, path, body, TRY_SECONDS, headers={header: value})
    except NbllamaError as error:
        hint = "; nothing is there: run nbllama serve" if door.url == SERVE_URL else ""
        return f"failed: {error}{hint}"
    return "ok"
