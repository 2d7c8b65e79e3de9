"""The Jupyter server that this kernel belongs to: does it have the extension, and can programs get in?

Jupyter gives a kernel its pid as JPY_PARENT_PID and describes itself in `jpserver-<pid>.json`. Where either is missing
(VS Code, plain IPython, a terminal) there is no server to speak of.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.worker import connection

MOST_SECONDS = 1.0
"""How long `%load_ext` may wait for the server; one that is busier than that is asked again by `%llama status`."""

TOKEN_HELP = (
    "this Jupyter server has no token, so the API below its URL is open to its own pages only; "
    "start it with --IdentityProvider.token=SECRET (or JUPYTER_TOKEN=SECRET)"
)


@dataclass(frozen=True)
class JupyterServer:
    """What `jpserver-<pid>.json` says. `token` is what it lets programs in with, empty if it has none."""

    pid: int
    url: str
    token: str


def server_help() -> str | None:
    """One sentence on what is missing for the API at this kernel's Jupyter server; None if nothing is, or unknown.

    Takes at most MOST_SECONDS."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(_help(MOST_SECONDS)), name="nbllama-server", daemon=True)
    thread.start()
    thread.join(MOST_SECONDS)
    return found[0] if found else None


def parent_server() -> JupyterServer | None:
    """The Jupyter server that started this kernel."""
    pid = os.environ.get("JPY_PARENT_PID", "")
    if not pid.isdecimal():
        return None
    with contextlib.suppress(OSError, ValueError, ImportError):
        from jupyter_core.paths import jupyter_runtime_dir

        info = json.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_text(encoding="utf-8"))
        # On a Hub the server knows no token of its own; the Hub's opens it.
        token = info.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN", "")
        return JupyterServer(int(pid), str(info["url"]).rstrip("/"), str(token))
    return None


def _help(seconds: float) -> str | None:
    server = parent_server()
    if server is None:
        return None
    try:
        status, answer = _ask(server, seconds)
    except (OSError, ValueError, NbllamaError):
        return None
    if status == 404:
        return _missing(server)
    ours = isinstance(answer.get("server"), dict) or answer.get("type") == "error"
    needs_token = not server.token or (status == 200 and answer.get("server", {}).get("needs_token"))
    return TOKEN_HELP if ours and needs_token else None


def _ask(server: JupyterServer, seconds: float) -> tuple[int, dict[str, Any]]:
    opened = connection.open_connection(connection.Endpoint(server.url), seconds)
    try:
        headers = {"authorization": f"token {server.token}"} if server.token else {}
        opened.request("GET", connection.Endpoint(server.url).target("/nbllama/status"), headers=headers)
        response = opened.getresponse()
        data = response.read()
        answer = json.loads(data) if "json" in response.getheader("content-type", "") else {}
        return response.status, answer if isinstance(answer, dict) else {}
    finally:
        opened.close()


def _missing(server: JupyterServer) -> str:
    prefix = _prefix(server.pid)
    on_a_hub = "JUPYTERHUB_USER" in os.environ
    restart = "stop and start your server (Hub Control Panel)" if on_a_hub else "restart Jupyter"
    if prefix == sys.prefix:
        return f"the magics work; for the API below Jupyter's URL, {restart}: it does not have the extension yet"
    place = prefix or "the environment that runs Jupyter"
    return f"the magics work; for the API below Jupyter's URL, install nbllama in {place} and {restart}"


def _prefix(pid: int) -> str | None:
    """The environment of a process, by the path of its interpreter; None where the system does not tell.

    Not by /proc/PID/exe: that of a virtual environment is a link to another's."""
    with contextlib.suppress(OSError):
        python = Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]))
        if python.is_absolute() and python.parent.name == "bin" and python.exists():
            return str(python.parents[1])
    return None
