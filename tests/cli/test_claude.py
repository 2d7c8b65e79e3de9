"""`nbllama claude` with a stand-in for Claude Code: what it is started with, and that its request is answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbllama.notebook import claude_code
from tests.cli.test_serve import ROOT, Place

STAND_IN = f"""#!{sys.executable}
import json, os, sys, urllib.error, urllib.request
base = os.environ["ANTHROPIC_BASE_URL"]
headers = {{"authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"], "content-type": "application/json"}}
def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
body = {{"model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 50, "messages": [{{"role": "user", "content": "hi"}}]}}
print(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ), "answer": ask("/v1/messages?beta=true", body),
                  "status": ask("/nbllama/status")}}))
sys.exit(7)
"""


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        place = Place(Path(folder))
        (place.folder / "bin").mkdir()
        try:
            yield place
        finally:
            subprocess.run(
                [sys.executable, "-m", "nbllama", "stop"], env=place.environment, capture_output=True, check=False
            )
            place.close()


def script(place: Place, name: str, n_ctx: int) -> str:
    (place.folder / f"{name}.json").write_text(json.dumps({"n_ctx": n_ctx, "rules": [], "default": "Hello."}))
    return f"scripted:{name}.json"


def run(place: Place, *arguments: str, installed: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    program = place.folder / "bin" / "claude"
    if installed:
        program.write_text(STAND_IN)
        program.chmod(0o755)
    env = {**place.environment, "JUPYTER_DATA_DIR": str(place.folder / "data"), "PATH": str(program.parent)}
    env |= {"ANTHROPIC_API_KEY": "of-another-service"} | variables
    command = [sys.executable, "-m", "nbllama", "claude", *arguments]
    return subprocess.run(command, env=env, cwd=place.folder, capture_output=True, text=True, check=False, timeout=120)


def told(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 7, ended.stderr
    value: dict[str, Any] = json.loads(ended.stdout)
    return value


def test_it_runs_with_everything_set_and_its_exit_code_is_ours(place: Place) -> None:
    ended = run(place, "--model", script(place, "large", 100_000), "-p", "say hello", "--mod", "x", "--max-turns=3")
    found = told(ended)
    env = found["env"]

    assert found["argv"] == ["-p", "say hello", "--mod", "x", "--max-turns=3"]
    assert (found["answer"][0], found["answer"][1]["content"][0]["text"]) == (200, "Hello.")
    # The key opens the API and nothing else.
    assert found["status"][0] == 403
    assert {env[name] for name in claude_code.MODEL_VARIABLES} == {"large"}
    assert env["ANTHROPIC_AUTH_TOKEN"] == (place.folder / "data" / "nbllama" / "key").read_text().strip()
    assert "ANTHROPIC_API_KEY" not in env
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "100000"
    assert "large, script, context 100,000 tokens" in ended.stderr
    assert "first word" in ended.stderr


def test_a_small_context_gets_the_small_prompt(place: Place) -> None:
    ended = run(place, "--model", script(place, "small", 8192), "-p", "hi")

    assert told(ended)["argv"] == ["--bare", "-p", "hi"]
    assert "--bare" in ended.stderr
    assert told(run(place, "--model", "scripted:small.json", "--bare"))["argv"] == ["--bare"]


def test_a_model_that_cannot_hold_the_prompt_is_refused_with_a_way_out(place: Place) -> None:
    ended = run(place, "--model", script(place, "tiny", 1024), "-p", "hi")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cannot hold Claude Code's prompt" in ended.stderr
    assert "--ctx" in ended.stderr


def test_without_claude_code_it_says_how_to_get_it(place: Place) -> None:
    ended = run(place, installed=False)

    assert ended.returncode == 1
    assert "pip install claude-agent-sdk" in ended.stderr or "claude_agent_sdk" in sys.modules
    assert place.worker() is None


def test_on_a_hub_a_key_of_this_run_is_used(place: Place) -> None:
    found = told(run(place, "--model", script(place, "large", 100_000), JUPYTERHUB_API_TOKEN="of-the-hub"))

    assert found["answer"][0] == 200
    assert found["env"]["ANTHROPIC_AUTH_TOKEN"] != "of-the-hub"
    assert not (place.folder / "data" / "nbllama" / "key").exists()


def test_a_settings_file_is_printed(place: Place) -> None:
    ended = run(place, "--model", script(place, "large", 4096), "--print-env", "settings", "--base-url", "http://h:1/")

    env = json.loads(ended.stdout)["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://h:1"
    assert env["ANTHROPIC_MODEL"] == "large"


def test_shells_read_back_what_is_printed() -> None:
    variables = claude_code.environment("http://h", "k", "it's $HOME `x`", 4096)
    lines = claude_code.written(variables, "sh") + '\nprintf %s "$ANTHROPIC_MODEL"'
    assert subprocess.run(["sh", "-c", lines], capture_output=True, text=True, check=True).stdout == "it's $HOME `x`"
    assert "$env:ANTHROPIC_MODEL = 'it''s $HOME `x`'" in claude_code.written(variables, "powershell")


def test_no_other_command_takes_what_it_does_not_know() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "nbllama", "status", "--foo"], cwd=ROOT, env=os.environ, capture_output=True, check=False
    )
    assert (ended.returncode, b"unrecognized" in ended.stderr) == (2, True)
