"""`%llama get`: the command that it runs is a small script here, and the real one where nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbllama.answer.model_sources import resolve
from nbllama.notebook.magics.getting import get_model
from nbllama.worker.errors import WorkerError


@pytest.fixture(autouse=True)
def own_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLLAMA_BASE_URL", raising=False)


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_command_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    said: list[str] = []
    assert get_model("demo", said.append) == "demo is here; load it with: %llama load demo"
    assert said == [str(resolve("demo").path)]
    with pytest.raises(WorkerError, match=r"^there is no model 'gpt-4' to get; there are: smollm2"):
        get_model("gpt-4", said.append)
    assert len(said) == 1


def test_progress_comes_while_it_fetches() -> None:
    said: list[str] = []
    get_model("tiny", said.append, script("import sys; print('10 of 20', file=sys.stderr); print(sys.argv[1])"))
    assert sorted(said) == ["10 of 20", "tiny"]


def test_an_interrupt_lets_the_command_tidy_up(tmp_path: Path) -> None:
    half = tmp_path / "half"
    code = f"""
import pathlib, time
half = pathlib.Path({str(half)!r})
half.touch()
try:
    print("begun", flush=True)
    time.sleep(60)
finally:
    half.unlink()
"""

    def interrupt(line: str) -> None:
        assert line == "begun"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_model("tiny", interrupt, script(code))
    assert not half.exists()


def test_another_server_fetches_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_BASE_URL", "http://example.org")
    with pytest.raises(WorkerError, match="fetch the model where that one runs"):
        get_model("smollm2", print)
