"""`make lab`, as far as it can be tried without opening JupyterLab."""

from __future__ import annotations

import importlib
import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from nbllama.answer import published_models

ROOT = Path(__file__).resolve().parents[2]
INFO = {"url": "http://localhost:8889/", "port": 8889, "token": "abc", "root_dir": str(ROOT / "notebooks")}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, "lab", raising=False)
    monkeypatch.setattr("sys.argv", ["lab.py"])
    return importlib.import_module("lab")


def test_without_a_browser_the_way_in_is_printed(lab: ModuleType) -> None:
    said = lab.greeting(INFO, browser=False)
    assert "http://localhost:8889/lab/tree/00_welcome.ipynb?token=abc" in said
    assert "ssh -L 8889:localhost:8889 " in said


def test_with_a_browser_the_address_is_enough(lab: ModuleType) -> None:
    assert "ssh" not in lab.greeting(INFO, browser=True)


def test_a_text_browser_is_none(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not lab.has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab.has_browser()


@pytest.mark.parametrize(
    ("uid", "browser", "options"), [(0, False, ["--no-browser", "--allow-root"]), (1000, True, [])]
)
def test_the_command(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, uid: int, browser: bool, options: list[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert lab.command(browser)[3:] == ["notebooks/00_welcome.ipynb", *options]


@pytest.fixture
def nobody_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NBLLAMA_MODEL", raising=False)
    monkeypatch.setenv("NBLLAMA_MODELS", str(tmp_path))
    monkeypatch.setattr("jupyter_core.paths.jupyter_config_path", lambda: [str(tmp_path)])
    monkeypatch.setattr("jupyter_core.paths.SYSTEM_CONFIG_PATH", [])
    small = replace(published_models.SMOLLM2, size=4, module="nbllama_test_none")
    monkeypatch.setitem(published_models.PUBLISHED, "smollm2", small)


def test_without_a_real_model_it_says_how_to_get_one(
    lab: ModuleType, nobody_chose: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.choose_model()
    assert "NBLLAMA_MODEL" not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nbllama: demo is 5 MB and knows nothing; ")
    assert "nbllama models get smollm2" in line


def test_a_real_model_is_the_default_where_it_is_here(
    lab: ModuleType, nobody_chose: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / published_models.SMOLLM2.file).write_bytes(b"GGUF")
    lab.choose_model()
    assert os.environ["NBLLAMA_MODEL"] == "smollm2"


def test_what_somebody_chose_stays(
    lab: ModuleType, nobody_chose: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / published_models.SMOLLM2.file).write_bytes(b"GGUF")
    (tmp_path / "jupyter_nbllama_config.py").write_text('c.NbllamaApp.model = "demo"\n')
    lab.choose_model()
    assert "NBLLAMA_MODEL" not in os.environ
    os.environ["NBLLAMA_MODEL"] = "demo"
    (tmp_path / "jupyter_nbllama_config.py").unlink()
    lab.choose_model()
    assert os.environ["NBLLAMA_MODEL"] == "demo"
