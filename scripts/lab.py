"""Opens JupyterLab on the welcome notebook; where there is no browser, says how to reach it from elsewhere.

Runs with the Python of .venv. JupyterLab itself moves to another port when 8888 is taken; its server file says which.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "notebooks/00_welcome.ipynb"
REAL_MODEL = "smollm2"


def main() -> int:
    browser = has_browser()
    choose_model()
    # The terminal sends Ctrl-C to both; JupyterLab asks whether it is meant, and this waits for the answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command(browser), cwd=ROOT, preexec_fn=restore_interrupt) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        info = wait_for_server(server)
        if info is not None:
            print(greeting(info, browser), file=sys.stderr, flush=True)
        return server.wait()


def choose_model() -> None:
    """A real model where one is here and nobody has chosen another; else says how to get one."""
    from nbllama.answer.model_sources import ModelError, better_than_demo, resolve
    from nbllama.worker.errors import SettingsError
    from nbllama.worker.settings import is_set

    try:
        if is_set("model", os.environ):
            return
        resolve(REAL_MODEL)
    except SettingsError:
        # The worker will say it, with the name of the file.
        return
    except ModelError:
        print(f"nbllama: {better_than_demo()}", file=sys.stderr, flush=True)
    else:
        # A variable, because kernels and the worker that they start have it too.
        os.environ["NBLLAMA_MODEL"] = REAL_MODEL


def command(browser: bool) -> list[str]:
    found = [sys.executable, "-m", "jupyterlab", NOTEBOOK]
    if not browser:
        found.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        found.append("--allow-root")
    return [*found, *sys.argv[1:]]


def has_browser() -> bool:
    """Whether a browser with a window can be opened: a text browser would take over this terminal."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def restore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_server(server: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """What the running server says of itself (url, port, token); None if it ended first."""
    path = Path(jupyter_runtime_dir(), f"jpserver-{server.pid}.json")
    while server.poll() is None:
        try:
            info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            time.sleep(0.2)
        else:
            return info
    return None


def greeting(info: dict[str, Any], browser: bool) -> str:
    token = f"?token={info['token']}" if info.get("token") else ""
    port = info["port"]
    # JupyterLab serves the folder of the file that it is given.
    path = (ROOT / NOTEBOOK).relative_to(info["root_dir"]).as_posix()
    lines = ["", f"nbllama: JupyterLab is at {info['url']}lab/tree/{path}{token}"]
    if not browser:
        lines.append("nbllama: no browser here. From your own machine run")
        lines.append(f"    ssh -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}")
        lines.append("and open that address there.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
