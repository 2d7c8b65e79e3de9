from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nbllama.answer import published_models
from nbllama.answer.model_sources import resolve
from nbllama.cli.main import main
from nbllama.cli.models import ProgressLine

MODELS = Path(published_models.__file__).parents[1] / "models"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_MODELS", str(tmp_path / "models"))
    # The package may be installed where the tests run.
    for id, one in published_models.PUBLISHED.items():
        monkeypatch.setitem(published_models.PUBLISHED, id, replace(one, module="nbllama_test_none"))


def test_the_list_says_how_to_get_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert str(resolve("demo").path) in out
    assert "run: nbllama models get smollm2" in out


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    demo, smollm2, base = json.loads(capsys.readouterr().out)
    assert (demo["id"], demo["size"], demo["license"]) == ("demo", Path(demo["path"]).stat().st_size, "MIT")
    assert (smollm2["id"], smollm2["path"]) == ("smollm2", None)
    assert smollm2["adapter"] == {
        "name": "smollm2-tools",
        "size_bytes": (MODELS / "smollm2-tools.gguf").stat().st_size,
        "base_sha256": published_models.SMOLLM2.sha256,
    }
    assert (base["id"], base["adapter"]) == ("smollm2:base", None)


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
