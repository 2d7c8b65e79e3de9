"""`nbllama clean` with real processes: it refuses beside a worker, and after it nothing of nbllama is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = "import sys; from nbllama.worker import connection; print(connection.ensure(model=sys.argv[1]).pid)"


class Home:
    """A user's home, cache and runtime folder, and commands run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self.cache = folder / ".cache" / "nbllama"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBLLAMA_", "XDG_"))}
        self.env = kept | {"HOME": str(folder), "NBLLAMA_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90
        )

    def nbllama(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "nbllama", *arguments)

    def write(self, path: str, text: str = "x") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        yield (home := Home(Path(folder)))
        home.nbllama("stop")


def test_after_stop_and_clean_nothing_is_left(home: Home) -> None:
    script = home.write("script.json", json.dumps({"default": "Hello."}))
    home.write(".cache/nbllama/wheels/0123/llama.whl", "w" * 2000)
    home.write(".cache/nbllama/models/some.gguf", "GGUF" * 1000)
    home.write(".cache/others/file")
    pid = home.run("-c", START, f"scripted:{script}").stdout.strip()
    refused = home.nbllama("clean", "--yes")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"a worker is running (pid {pid})" in refused.stderr
    assert home.nbllama("stop").returncode == 0
    for name in ("crashes.json", "library-trial.json", "nbllama-p1.log.1", ".interpreter.json.x1y2"):
        home.write(f"run/{name}")
    cleaned = home.nbllama("clean", "--yes")
    assert cleaned.returncode == 0, cleaned.stderr
    for line in ("4.0 kB  1 file", "2.0 kB  1 file", "models/some.gguf", "wheels/0123", "run/nbllama-p1.log"):
        assert line in cleaned.stdout
    left = {str(path.relative_to(home.folder)) for path in home.folder.rglob("*") if not path.is_dir()}
    assert left == {"script.json", ".cache/others/file"}
    assert not home.cache.exists()
    assert not home.runtime.exists()
    assert home.nbllama("clean").stdout == "there is nothing to remove\n"


def test_nothing_is_removed_unasked(home: Home) -> None:
    model = home.write(".cache/nbllama/models/some.gguf")
    asked = home.nbllama("clean")

    assert asked.returncode == 1
    assert "some.gguf" in asked.stdout
    assert "nbllama clean --yes" in asked.stderr
    assert model.exists()


def test_what_is_not_ours_stays(home: Home) -> None:
    own_model = home.write("models/mine.gguf")
    fetched = home.write("models/SmolLM2-135M-Instruct.Q4_1.gguf")
    own_wheel = home.write("wheels/other/a.whl")
    built = home.write("wheels/0123/inputs.json")
    own_file = home.write("run/thesis.txt")
    behind_a_link = home.write("elsewhere/file")
    home.cache.mkdir(parents=True)
    (home.cache / "link").symlink_to(behind_a_link.parent)
    home.env |= {"NBLLAMA_MODELS": str(own_model.parent), "NBLLAMA_WHEELS": str(own_wheel.parents[1])}
    assert home.nbllama("clean", "-y").returncode == 0

    assert all(path.exists() for path in (own_model, own_wheel, own_file, behind_a_link))
    assert not any(path.exists() for path in (fetched, built, home.cache))
