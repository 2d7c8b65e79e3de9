"""`make lab`, as far as it can be tried without opening JupyterLab."""

from __future__ import annotations

import importlib
import sys
import webbrowser
from pathlib import Path
from types import ModuleType

import pytest

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
