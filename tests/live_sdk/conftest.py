"""A TCP door to the demo model, for whichever SDK this interpreter has.

`NBLLAMA_PYTHON` names the interpreter that serves, so that the SDK under test may live in another environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "a-test-token"


@dataclass(frozen=True)
class Door:
    url: str
    token: str


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    python = os.environ.get("NBLLAMA_PYTHON", sys.executable)
    runtime_dir = tmp_path_factory.mktemp("run")
    runtime_dir.chmod(0o700)
    environment = os.environ | {"NBLLAMA_RUNTIME_DIR": str(runtime_dir), "PYTHONPATH": ""}
    command = [python, "-m", "nbllama", "serve", "--model", "demo", "--port", "0", "--token", TOKEN]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("nbllama: serving demo at "), line
        yield Door(line.split(" at ")[1].strip(), TOKEN)
        server.terminate()
    subprocess.run([python, "-m", "nbllama", "stop"], cwd=ROOT, env=environment, check=False, timeout=60)
