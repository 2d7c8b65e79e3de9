"""A build that reports AMX is tried once in a child, and worked around if the child dies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbllama.answer import loading
from nbllama.answer.model_sources import resolve
from nbllama.engine import library_trial, llama_runtime
from nbllama.engine.library_trial import crashes_with_amx

AMX = "CPU : AVX2 = 1 | AMX_INT8 = 1 | REPACK = 1"
DEMO = resolve("demo").path
DIES = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
FAILS = [sys.executable, "-c", "raise SystemExit(1)"]


def test_without_amx_nothing_is_tried(tmp_path: Path) -> None:
    assert not crashes_with_amx("CPU : AVX2 = 1", tmp_path, DEMO, tmp_path / "memory", DIES)
    assert not (tmp_path / "memory").exists()


def test_a_child_that_dies_is_remembered_until_the_library_changes(tmp_path: Path) -> None:
    library, memory = tmp_path / "lib.so", tmp_path / "memory"
    library.touch()
    assert crashes_with_amx(AMX, library, DEMO, memory, DIES)
    assert crashes_with_amx(AMX, library, DEMO, memory, FAILS)

    library.unlink()
    library.write_text("new")
    assert not crashes_with_amx(AMX, library, DEMO, memory, FAILS)


def test_the_trial_for_real_survives_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert not crashes_with_amx(AMX, llama_runtime.library_file(), DEMO, tmp_path / "memory")
    assert "false" in (tmp_path / "memory").read_text()
    assert "trial" not in caplog.text


def test_a_failed_trial_loads_without_extra_buffers_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_runtime, "system_info", lambda: AMX)
    monkeypatch.setattr(library_trial, "_command", lambda _: DIES)
    load = loading.load_runtime(None, tmp_path / "memory")
    runtime = load(resolve("demo"), 256, lambda _: None)
    try:
        assert runtime.info.warnings == (library_trial.WARNING,)
        assert "CMAKE_ARGS" in library_trial.WARNING
    finally:
        runtime.close()
