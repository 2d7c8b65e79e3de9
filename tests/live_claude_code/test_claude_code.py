"""Claude Code, headless, against `nbllama serve` with a scripted model. $CLAUDE names the program."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
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


def ask(door: Door, folder: Path, prompt: str, *arguments: str) -> dict[str, Any]:
    """One `claude -p` in `folder`; its JSON result."""
    env = {
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
    command = [os.environ["CLAUDE"], "-p", prompt, "--model", door.model, "--output-format", "json", *arguments]
    ended = subprocess.run(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=240
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
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
