"""Where settings come from, and that a bad one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbllama.worker.errors import SettingsError
from nbllama.worker.settings import Settings, load_settings


def write(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"jupyter_nbllama_config.{name}").write_text(text)
    return str(folder)


def test_defaults() -> None:
    assert load_settings({}, [], []) == Settings("demo", None, None, 60.0, 3600.0, "socket")


def test_the_later_source_wins(tmp_path: Path) -> None:
    python = 'c.NbllamaApp.model = "a"\nc.NbllamaApp.threads = 3\nc.NbllamaApp.ctx = 1'
    system = write(tmp_path / "system", "py", python)
    user = write(tmp_path / "user", "json", '{"NbllamaApp": {"model": "b", "api_prefix": "/x", "ctx": 2}}')
    path = [user, system]

    assert load_settings({}, [], path) == Settings(model="b", ctx=2, threads=3)
    assert load_settings({"NBLLAMA_CTX": "5", "NBLLAMA_MODEL": ""}, [], path) == Settings(model="b", ctx=5, threads=3)
    assert load_settings({"NBLLAMA_MODEL": "c"}, ["--model", "d", "--ctx", "9"], path) == Settings("d", 9, 3)


def test_minus_one_is_never() -> None:
    settings = load_settings({"NBLLAMA_IDLE_EXIT": "-1", "NBLLAMA_IDLE_UNLOAD": "0.5"}, [], [])

    assert (settings.idle_exit, settings.idle_unload) == (None, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CTX", "many"), ("CTX", "0"), ("CTX", "1.5"), ("THREADS", "-2"), ("IDLE_EXIT", "nan"), ("IDLE_EXIT", "-2"),
        ("TRANSPORT", "carrier pigeon"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"NBLLAMA_{name}: '{value}'"):
        load_settings({f"NBLLAMA_{name}": value}, [], [])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("py", "c.NbllamaApp.ctx = 1.5", r"c\.NbllamaApp\.ctx in .*py"),
        ("py", "c.NbllamaApp.model = 3", r"c\.NbllamaApp\.model in"),
        ("py", "no Python at all", "cannot be read: SyntaxError"),
        ("json", "{", "cannot be read"),
        ("json", '{"NbllamaApp": {"idle_exit": true}}', r"c\.NbllamaApp\.idle_exit in .*json"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = [write(tmp_path, name, text)]

    with pytest.raises(SettingsError, match=words):
        load_settings({}, [], path)


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(SettingsError, match="--ctx: 'x'"):
        load_settings({}, ["--ctx", "x"], [])
