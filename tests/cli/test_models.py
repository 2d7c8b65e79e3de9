from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbllama.answer.model_sources import resolve
from nbllama.cli.main import main
from nbllama.cli.models import ProgressLine


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_MODELS", str(tmp_path / "models"))


def test_the_list_says_how_to_get_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert str(resolve("demo").path) in out
    assert "run: nbllama models get smollm2" in out


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    demo, smollm2 = json.loads(capsys.readouterr().out)
    assert (demo["id"], demo["size"], demo["license"]) == ("demo", Path(demo["path"]).stat().st_size, "MIT")
    assert (smollm2["id"], smollm2["path"]) == ("smollm2", None)


def test_get_prints_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "get", "demo"]) == 0
    assert capsys.readouterr().out == f"{resolve('demo').path}\n"


def test_progress_in_a_file_is_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine()
    for done in range(0, 1_000_001, 10_000):
        line(done, 1_000_000)
    line.end()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 11
    assert told[-1] == "1.0 MB of 1.0 MB"
