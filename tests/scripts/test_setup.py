"""The set-up scripts: what a build depends on, what is said when something is missing, when there is nothing to do."""

from __future__ import annotations

import importlib
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """The scripts as modules, with caches of their own."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("NBLLAMA_WHEELS", str(tmp_path / "wheels"))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    names = ("progress", "machine", "llama_wheel", "setup")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: importlib.import_module(name) for name in names}


def test_the_built_version_is_one_that_the_package_accepts(scripts: dict[str, ModuleType]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = [line for line in project["dependencies"] if line.startswith("llama-cpp-python")]
    oldest = bound.removeprefix("llama-cpp-python>=")
    assert _numbers(scripts["llama_wheel"].VERSION) >= _numbers(oldest)


def test_a_wheel_is_kept_by_flags_processor_and_compiler(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_wheel, machine = scripts["llama_wheel"], scripts["machine"]
    keys = [llama_wheel.key()]
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    keys.append(llama_wheel.key())
    monkeypatch.setattr(machine, "processor", lambda: "another processor")
    keys.append(llama_wheel.key())
    monkeypatch.setattr(machine, "compiler", lambda: "another compiler")
    keys.append(llama_wheel.key())
    monkeypatch.setattr(llama_wheel, "VERSION", "9.9.9")
    keys.append(llama_wheel.key())
    assert len(set(keys)) == 5


def test_every_build_is_without_amx(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    flags = scripts["llama_wheel"]._flags()
    assert flags.startswith("-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__")
    assert flags.endswith(" -DGGML_CUDA=on")


def test_a_wheel_that_is_there_is_found(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    llama_wheel = scripts["llama_wheel"]
    assert llama_wheel.cached() is None
    folder = tmp_path / "wheels" / llama_wheel.key()
    folder.mkdir(parents=True)
    wheel = folder / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    wheel.touch()
    assert llama_wheel.cached() == wheel


@pytest.mark.parametrize(
    ("gigabytes", "processors", "jobs"), [(24, 2, 2), (24, 64, 16), (3.2, 4, 2), (2, 4, 1), (0.5, 4, 1)]
)
def test_fewer_compilers_with_less_memory(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, gigabytes: float, processors: int, jobs: int
) -> None:
    machine = scripts["machine"]
    monkeypatch.setattr(machine, "memory", lambda: gigabytes * 1e9)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(processors), raising=False)
    assert machine.build_jobs() == jobs


def test_all_that_is_missing_is_named_at_once(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = scripts["machine"]
    monkeypatch.setattr(machine, "compiler", lambda: "")
    monkeypatch.setattr(machine, "_has_venv", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(scripts["progress"].Failed) as failed:
        machine.check(tmp_path, tmp_path)
    said = str(failed.value)
    assert "Python's venv module, a C++ compiler" in said
    assert said.endswith("apt-get install python3-venv g++")


def test_no_compiler_is_asked_for_when_nothing_is_built(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = scripts["machine"]
    monkeypatch.setattr(machine, "compiler", lambda: "")
    machine.check(tmp_path, None)


def test_a_full_disk_is_named(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Usage:
        free = 3e8

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(scripts["progress"].Failed, match=r"0\.3 GB of free disk"):
        scripts["machine"].check(tmp_path, tmp_path)


def test_a_finished_set_up_is_recognised(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setup = scripts["setup"]
    monkeypatch.setattr(setup, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(setup, "VENV_PYTHON", Path(sys.executable))
    wanted = setup.wanted_state()
    assert not setup.is_done(wanted)
    setup.STAMP.write_text(json.dumps(wanted))
    assert setup.is_done(wanted)
    assert not setup.is_done(wanted | {"project": "changed"})
    monkeypatch.setattr(setup, "VENV_PYTHON", tmp_path / "gone")
    assert not setup.is_done(wanted)


def test_a_failing_command_shows_the_end_of_its_output(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    progress = scripts["progress"]
    command = [sys.executable, "-c", "print('\\n'.join(map(str, range(99)))); raise SystemExit(3)"]
    with pytest.raises(progress.Failed) as failed:
        progress.run(command, what="counting", log=tmp_path / "log")
    assert "counting failed:\n74\n" in str(failed.value)
    assert (tmp_path / "log").read_text().startswith("0\n1\n")


def test_progress_of_the_build_is_read_from_ninja(scripts: dict[str, ModuleType]) -> None:
    read = scripts["llama_wheel"]._ninja_line
    assert read("  [57/193] /usr/bin/c++ -O3 …") == "compiling: 57 of 193 files"
    assert read("  -- Configuring done") is None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
