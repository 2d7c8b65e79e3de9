"""The command line as such: help, errors in one line, and that no command pays for another."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbllama._version import __version__
from nbllama.cli.main import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbllama", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: nbllama {command}" in capsys.readouterr().out


def test_version() -> None:
    assert run("--version").stdout == f"nbllama {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["status", "--no-such-option"]])
def test_wrong_usage(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "usage: nbllama" in ended.stderr


def test_an_error_is_one_line_on_standard_error() -> None:
    ended = run("models", "get", "no-such-model")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "nbllama: there is no model 'no-such-model' to get; there are: smollm2, smollm2:base\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m nbllama models list --json | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nbllama.cli.main import main; main(['status']); "
        "print([name for name in ('tornado', 'llama_cpp', 'pandas', 'anthropic', 'pydantic') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "[]"
