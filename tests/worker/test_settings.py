"""Where settings come from, and that a bad one is named."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nbllama.notebook.magics.llama import NbllamaMagics
from nbllama.wire.errors import PermissionDenied
from nbllama.worker.errors import SettingsError
from nbllama.worker.policy import Policy
from nbllama.worker.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"jupyter_nbllama_config.{name}").write_text(text)
    return str(folder)


def test_defaults() -> None:
    assert load_settings({}, [], []) == Settings("demo", None, None, None, 60.0, 3600.0, "socket")


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


def test_traces_can_be_turned_off(tmp_path: Path) -> None:
    file = write(tmp_path, "py", "c.NbllamaApp.traces = 0\nc.NbllamaApp.trace_bytes = 5_000_000")

    from_file, from_variable = load_settings({}, [], [file]), load_settings({"NBLLAMA_TRACES": "0"}, [], [])

    assert (from_file.traces, from_file.trace_bytes) == (0, 5_000_000)
    assert (from_variable.traces, load_settings({}, [], []).traces) == (0, 100)


def test_probabilities_are_asked_for_by_a_setting() -> None:
    assert load_settings({}, [], []).probabilities == 0
    assert load_settings({"NBLLAMA_PROBABILITIES": "20"}, [], []).probabilities == 20


def test_no_memory_beside_the_context() -> None:
    assert load_settings({"NBLLAMA_CACHE_RAM": "0"}, [], []).cache_ram == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROBABILITIES", "21"), ("PROBABILITIES", "-1"), ("TRACES", "-1"), ("TRACES", "off"), ("TRACE_BYTES", "0"),
        ("CTX", "many"), ("CTX", "0"), ("CTX", "1.5"), ("THREADS", "-2"), ("CACHE_RAM", "-1"), ("CACHE_RAM", "lots"),
        ("IDLE_EXIT", "nan"), ("IDLE_EXIT", "-2"),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c.NbllamaApp.idle_exitt = 3", "idle_exitt in .*py is no setting; did you mean idle_exit"),
        ("c.NbllamaApp = 3", "not a set of settings|cannot be read"),
        ("c.NbllamaApp.locked = ['ctx']", "locked in .*py: only a file of the system's"),
    ],
)
def test_a_bad_name_or_place_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings({}, [], [write(tmp_path, "py", text)], [])


def test_what_the_system_locks_is_not_overridden(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = write(tmp_path / "system", "py", 'c.NbllamaApp.model = "a"\nc.NbllamaApp.locked = ["model", "ctx"]')
    user = write(tmp_path / "user", "py", 'c.NbllamaApp.model = "b"\nc.NbllamaApp.threads = 3')
    variables = {"NBLLAMA_MODEL": "c", "NBLLAMA_THREADS": "4"}

    for path in ([user, system], [user], []):
        settings = load_settings(variables, ["--model", "d", "--ctx", "9"], path, [system])
        assert settings == Settings("a", None, 4, locked=frozenset({"model", "ctx"}))
    assert "model: 'd' is not used" in caplog.text
    assert "ctx: 9 is not used" in caplog.text


@pytest.mark.parametrize(("value", "words"), [('"model"', "not a list"), ('["modell"]', "'modell' is none of model")])
def test_a_bad_lock_is_named(tmp_path: Path, value: str, words: str) -> None:
    system = write(tmp_path, "py", f"c.NbllamaApp.locked = {value}")

    with pytest.raises(SettingsError, match=rf"c\.NbllamaApp\.locked in .*py: .*{words}"):
        load_settings({}, [], [system], [system])


def test_a_lock_holds_in_a_running_worker() -> None:
    Policy().check_load("b", 5)
    policy = Policy(Settings("a", 4096, locked=frozenset({"model", "ctx"})))
    policy.check_load("a", None)
    policy.check_load("a", 4096)

    with pytest.raises(PermissionDenied, match="allows a only"):
        policy.check_load("b", None)
    with pytest.raises(PermissionDenied, match="4096 tokens only, not 5"):
        policy.check_load("a", 5)


WORKER = """
import sys
from jupyter_core import paths
paths.SYSTEM_CONFIG_PATH = [sys.argv.pop()]
from nbllama.worker.__main__ import main
sys.exit(main())
"""


def test_the_real_worker_refuses_a_bad_system_file(tmp_path: Path) -> None:
    system = write(tmp_path / "system", "json", json.dumps({"NbllamaApp": {"locked": ["idle_exit"], "idle_exit": "x"}}))
    environment = {**os.environ, "JUPYTER_NO_CONFIG": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, system]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert f"c.NbllamaApp.idle_exit in {system}/jupyter_nbllama_config.json: 'x' cannot be used" in ended.stderr


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    worker, notebook = text.split("## In notebooks")
    rows = {name: cells for name, cells in re.findall(r"^\| `(\w+)` \|(.*)", worker, re.MULTILINE)}

    assert list(rows) == [field.name for field in dataclasses.fields(Settings)]
    for field in dataclasses.fields(Settings):
        if field.name != "locked":
            assert f"`NBLLAMA_{field.name.upper()}`" in rows[field.name]
            default = "none" if field.default is None else f"`{json.dumps(field.default).removesuffix('.0')}`"
            assert rows[field.name].split("|")[1].strip() == default
    assert set(re.findall(r"^\| `(\w+)` \|", notebook, re.MULTILINE)) == set(
        NbllamaMagics.class_own_traits(config=True)
    )


def test_formats_are_objects_by_model_id(tmp_path: Path) -> None:
    text = '{"NbllamaApp": {"formats": {"m": {"calls": {"open": "<c>"}}}}}'
    wanted = {"m": {"calls": {"open": "<c>"}}}

    assert load_settings({}, [], [write(tmp_path, "json", text)]).formats == wanted
    assert load_settings({"NBLLAMA_FORMATS": '{"m": {"calls": {"open": "<c>"}}}'}, [], []).formats == wanted
    with pytest.raises(SettingsError, match="NBLLAMA_FORMATS"):
        load_settings({"NBLLAMA_FORMATS": "[1]"}, [], [])
