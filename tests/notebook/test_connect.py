"""`%llama connect` and `%llama claude` in a kernel's place: a real Jupyter server and `nbllama serve`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics import connect
from nbllama.notebook.magics.commands import run_command
from nbllama.worker import api_key
from tests.server.test_jupyter_server import BASE_URL, TOKEN, environment, jupyter


def test_the_lines_name_the_servers_url_and_the_key_and_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with jupyter() as server:
        for name, value in environment(server.folder).items():
            if name.startswith(("NBLLAMA_", "JUPYTER")):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("JPY_PARENT_PID", str(server.process.pid))
        try:
            run_command(["connect"])
            text = capsys.readouterr().out
            run_command(["claude", "settings"])
            env = json.loads(capsys.readouterr().out)["env"]
            key = api_key.ensure_key()
        finally:
            link.detach()

    url = f"http://localhost:{server.port}{BASE_URL}".rstrip("/")
    assert re.findall(r"^(curl|Python|TypeScript|Claude Code) +(ok|failed.*)$", text, re.MULTILINE) == [
        (name, "ok") for name in ("curl", "Python", "TypeScript", "Claude Code")
    ], text
    assert f"curl {url}/v1/messages -H 'x-api-key: {key}'" in text
    assert TOKEN not in text
    assert (env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"]) == (url, key)
    assert TOKEN not in env.values()


def test_on_a_hub_the_lines_name_the_variable_of_the_hubs_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret-of-the-hub")
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example/user/ada/")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    text = "\n".join(connect._lines(connect._door(), "demo"))

    assert "secret-of-the-hub" not in text
    assert "https://hub.example/user/ada/v1/messages" in text
    assert text.count("JUPYTERHUB_API_TOKEN") == 4


def test_where_nothing_listens_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "SERVE_URL", "http://127.0.0.1:9")
    for name in [name for name in os.environ if name.startswith("JUPYTERHUB")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    tried = connect._tried(connect._door(), "demo")

    assert len(tried) == 4
    assert all("failed" in line and "nbllama serve" in line for line in tried)
