"""A worker of another protocol runs beside ours: it is left alone, and `status` tells of its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbllama.cli.main import main
from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics.commands import run_command
from nbllama.worker import connection

STARTER = """
from nbllama.worker import runtime_dir
runtime_dir.PROTOCOL = 2
import sys
sys.argv[1:] = ["--model", "demo"]
from nbllama.worker import __main__
sys.exit(__main__.main())
"""


@pytest.fixture
def other(startable: Path) -> Iterator[int]:
    """The pid of a whole worker that speaks protocol 2."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("serves protocol 2" in line for line in process.stderr)
            yield process.pid
        finally:
            process.kill()


def test_it_runs_beside_ours_and_status_warns(
    startable: Path, other: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connection.find() is None
    assert main(["status"]) == 0
    assert "no worker is running\nwarning: worker " in capsys.readouterr().out
    ours = connection.ensure()
    (found,) = connection.other_workers()

    assert (found.protocol, found.pid) == (2, other)
    assert ours.pid != other
    run_command(["status"])
    link.detach()
    assert f"warning     worker {other} of nbllama" in capsys.readouterr().out
    assert main(["clean", "--yes"]) == 1
    assert connection.stop(found.endpoint)


@pytest.mark.parametrize("content", ["[]", "{}", json.dumps({"protocol": 3, "pid": 1, "socket": "/nope"})])
def test_a_file_that_a_dead_one_left_is_no_worker(runtime: Path, content: str) -> None:
    (runtime / "nbllama-p3.json").write_text(content)
    (runtime / "nbllama-p4.json").symlink_to("/etc/passwd")

    assert connection.other_workers() == []
