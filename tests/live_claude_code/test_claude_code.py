"""Claude Code, headless, against `nbllama serve` with a scripted model. $CLAUDE names the program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_process import TOKEN, Door, serving

SECRET_WORD = "kingfisher"
CALL = json.dumps({"name": "Bash", "arguments": {"command": "cat word.txt", "description": "read the word"}})
CALLS_THE_TOOL = f"<tool_call>\n{CALL}\n</tool_call>"
# Claude Code's first request ends in a system message of its own, so that the answer to it is the default.
SCRIPT: dict[str, Any] = {
    # It sends about 12,000 tokens of tools; a scripted token is shorter than a real model's.
    "n_ctx": 131_072,
    "rules": [{"when": SECRET_WORD, "answer": f"The word is {SECRET_WORD}."}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where Claude Code works; its home folder too."""
    (tmp_path / "tmp").mkdir()
    return tmp_path


@contextlib.contextmanager
def scripted(folder: Path, default: str) -> Iterator[Door]:
    script = folder / "lesson.json"
    script.write_text(json.dumps(SCRIPT | {"default": default}))
    with serving(f"scripted:{script}") as door:
        yield door


def environment(door: Door, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": door.url,
        "ANTHROPIC_AUTH_TOKEN": TOKEN,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_TMPDIR": str(folder / "tmp"),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "2048",
    }


def ask(door: Door, folder: Path, prompt: str, *arguments: str, fails: bool = False) -> dict[str, Any]:
    """One `claude -p` in `folder`; its JSON result."""
    env = environment(door, folder)
    command = [os.environ["CLAUDE"], "-p", prompt, "--model", door.model, "--output-format", "json", *arguments]
    ended = subprocess.run(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=240
    )
    assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def test_a_turn(folder: Path) -> None:
    with scripted(folder, "Hello from the script.") as door:
        result = ask(door, folder, "Say hello.")
    assert (result["result"], result["is_error"]) == ("Hello from the script.", False)
    assert result["usage"]["output_tokens"] > 0


def test_a_tool_call_and_its_result(folder: Path) -> None:
    (folder / "word.txt").write_text(SECRET_WORD)
    with scripted(folder, CALLS_THE_TOOL) as door:
        result = ask(door, folder, "Read the word.", "--allowedTools", "Bash")
    assert (result["result"], result["num_turns"]) == (f"The word is {SECRET_WORD}.", 2)


@pytest.mark.parametrize("tool", ["Bash", "Read"])
def test_a_second_turn_reads_its_prompt_from_the_cache(folder: Path, tool: str) -> None:
    (folder / "word.txt").write_text(SECRET_WORD)
    read = json.dumps({"name": "Read", "arguments": {"file_path": str(folder / "word.txt")}})
    call = CALLS_THE_TOOL if tool == "Bash" else f"<tool_call>\n{read}\n</tool_call>"
    with scripted(folder, call) as door:
        result = ask(door, folder, "Read the word.", "--allowedTools", tool)
        alone = ask(door, folder, "Read the word.", "--allowedTools", tool, "--max-turns", "1", fails=True)["usage"]
    assert (result["result"], result["num_turns"]) == (f"The word is {SECRET_WORD}.", 2)
    usage = result["usage"]
    first = prompt_tokens(alone)
    # The result adds both turns up: what the first one read is known from one that ended there.
    second = prompt_tokens(usage) - first
    assert second >= first
    assert usage["cache_read_input_tokens"] >= 0.95 * second


def prompt_tokens(usage: dict[str, Any]) -> int:
    return sum(usage[f"{part}input_tokens"] for part in ("", "cache_read_", "cache_creation_"))


def test_bare(folder: Path) -> None:
    (folder / "word.txt").write_text(SECRET_WORD)
    with scripted(folder, CALLS_THE_TOOL) as door:
        result = ask(door, folder, "Read the word.", "--bare", "--allowedTools", "Bash")
    assert (result["result"], result["num_turns"]) == (f"The word is {SECRET_WORD}.", 2)


def test_bare_with_a_real_model(folder: Path) -> None:
    """The protocol only: what so small a model says is its own affair."""
    with serving("demo") as door:
        result = ask(door, folder, "Say hello.", "--bare", "--max-turns", "1", "--tools", "")
    assert result["usage"]["output_tokens"] > 0


def test_an_overflow_is_told_and_ends(folder: Path) -> None:
    script = folder / "small.json"
    script.write_text(json.dumps({"n_ctx": 2048, "rules": [], "default": "Hello."}))
    with serving(f"scripted:{script}") as door:
        result = ask(door, folder, "Say hello.", fails=True)
        after = ask(door, folder, "Say hello.", "--bare", "--tools", "")
    assert result["is_error"]
    assert "long" in result["result"].lower()
    assert after["result"] == "Hello."


def test_an_interrupted_turn_ends_at_the_server(folder: Path) -> None:
    script = folder / "slow.json"
    script.write_text(json.dumps({"n_ctx": 131_072, "rules": [], "default": "on " * 100_000, "prefill_s": 0}))
    with serving(f"scripted:{script}") as door:
        command = [os.environ["CLAUDE"], "-p", "Say much.", "--model", door.model]
        env = environment(door, folder) | {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "100000"}
        with subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL) as claude:
            wait_for(lambda: door.request("/nbllama/status")["requests_running"] == 1)
            claude.send_signal(signal.SIGINT)
            claude.wait(60)
            wait_for(lambda: door.request("/nbllama/status")["requests_running"] == 0)
        assert door.message(messages=[{"role": "user", "content": "hi"}], max_tokens=5)["usage"]["output_tokens"] == 5


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
