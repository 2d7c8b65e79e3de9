"""`%load_ext`, `%reload_ext`, `%unload_ext`: what they leave, and what they say of their Jupyter server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics import jupyter_server
from nbllama.notebook.magics.jupyter_server import TOKEN_HELP, server_help
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import FakeWorker, text_answer

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def test_reload_leaves_one_of_each_and_works(shell: Shell, worker: FakeWorker) -> None:
    shell.run("%reload_ext nbllama\n%reload_ext nbllama")
    worker.steps = text_answer("Hello")
    shell.run("%%llama\nHi")

    assert shell.last["text/plain"] == "Hello"
    assert [type(one).__name__ for one in shell.ip.configurables].count("NbllamaMagics") == 1


def test_unload_takes_the_magics_away_and_detaches(shell: Shell, worker: FakeWorker) -> None:
    worker.steps = text_answer("Hello")
    shell.run("%%llama\nHi")
    assert link._held is not None
    shell.run("%unload_ext nbllama\n%unload_ext nbllama")

    assert link._held is None
    assert shell.ip.find_line_magic("llama") is None
    assert shell.ip.find_cell_magic("llama") is None
    assert "NbllamaMagics" not in [type(one).__name__ for one in shell.ip.configurables]
    shell.run("%load_ext nbllama")
    worker.steps = text_answer("Again")
    shell.run("%%llama\nHi")
    assert shell.last["text/plain"] == "Again"


def test_config_shows_and_sets(shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run("%config NbllamaMagics")
    assert "NbllamaMagics.max_tokens" in capsys.readouterr().out
    shell.run("%config NbllamaMagics.max_tokens = 17")
    worker.steps = text_answer("Hello")
    shell.run("%%llama\nHi")
    assert [one.body["max_tokens"] for one in worker.received if one.path == "/v1/messages"] == [17]


@contextlib.contextmanager
def jupyter(folder: Path, *, extension: bool, token: str, password: bool = False) -> Iterator[dict[str, str]]:
    """A real Jupyter server; what a kernel of it would have in its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(folder / "jupyter")}
    env |= {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_NO_CONFIG": "1"}
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.jpserver_extensions={{'nbllama': {extension}}}", f"--IdentityProvider.token={token}"]
    if password:
        command.append("--PasswordIdentityProvider.hashed_password=argon2:x")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/api", folder / "log")
        yield {"JPY_PARENT_PID": str(process.pid), "JUPYTER_RUNTIME_DIR": env["JUPYTER_RUNTIME_DIR"]}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def load_in_a_kernel(environment: dict[str, str], prefix: str | None = None) -> str:
    """What `%load_ext nbllama` prints in a process of its own."""
    code = f"import sys; sys.prefix = {prefix!r} or sys.prefix\n" + (
        "from nbllama.notebook.magics import jupyter_server; jupyter_server.MOST_SECONDS = 60\n"
        "from IPython.core.interactiveshell import InteractiveShell as S\n"
        "from traitlets.config import Config\n"
        "S.instance(config=Config({'HistoryManager': {'enabled': False}})).run_line_magic('load_ext', 'nbllama')"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_a_server_without_the_extension(runtime: Path) -> None:
    with jupyter(runtime, extension=False, token=secrets.token_hex()) as environment:
        said = load_in_a_kernel(environment, prefix="/another")
        assert said == (
            f"nbllama: the magics work; for the API below Jupyter's URL, install nbllama in {sys.prefix} "
            "and restart Jupyter\n"
        )
        assert "for the API below Jupyter's URL, restart Jupyter" in load_in_a_kernel(environment)
        on_a_hub = load_in_a_kernel(environment | {"JUPYTERHUB_USER": "ada"}, prefix="/another")
        assert f"install nbllama in {sys.prefix} and stop and start your server" in on_a_hub


def test_a_server_with_extension_and_token_says_nothing(runtime: Path) -> None:
    with jupyter(runtime, extension=True, token=secrets.token_hex()) as environment:
        assert load_in_a_kernel(environment) == ""


@pytest.mark.parametrize("password", [False, True])
def test_a_server_without_a_token_is_told_once(runtime: Path, password: bool) -> None:
    with jupyter(runtime, extension=True, token="", password=password) as environment:
        assert load_in_a_kernel(environment) == f"nbllama: {TOKEN_HELP}\n"


@pytest.mark.parametrize("pid", [None, "", "4000000", "x"])
def test_without_a_server_nothing_is_said(runtime: Path, monkeypatch: pytest.MonkeyPatch, pid: str | None) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("JPY_PARENT_PID", pid)

    assert server_help() is None


def test_a_server_that_does_not_answer_does_not_block(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        info = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/", "token": "t"}
        (runtime / "jpserver-77.json").write_text(json.dumps(info))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
        monkeypatch.setenv("JPY_PARENT_PID", "77")
        monkeypatch.setattr(jupyter_server, "MOST_SECONDS", 0.1)

        assert jupyter_server.parent_server() == jupyter_server.JupyterServer(77, info["url"].rstrip("/"), "t")
        assert server_help() is None
