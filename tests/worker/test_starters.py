"""From wherever a worker is started: real workers with a scripted model, one pid from all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from nbllama.worker import connection

ROOT = Path(__file__).parents[2]
ENSURE = "from nbllama.worker import connection; print('pid', connection.ensure().pid, flush=True)"


@pytest.fixture
def starter(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder where every starter means a scripted model; its worker is ended at the end."""
    (runtime / "model.json").write_text(json.dumps({"rules": [{"when": "", "answer": "one two"}]}))
    monkeypatch.setenv("NBLLAMA_MODEL", f"scripted:{runtime / 'model.json'}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield runtime
    endpoint = connection.find()
    if endpoint is not None:
        connection.stop(endpoint)
        assert connection.wait_until_gone(endpoint)


def pid_from(python: str, *, cwd: Path, code: str = ENSURE, **more: str) -> int:
    environment = {**os.environ, **more}
    done = subprocess.run([python, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("pid ")[1])


def test_another_environment_without_llama_cpp_starts_and_shares_it(starter: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False)
    other = str(tmp_path / "other" / "bin" / "python")
    # nbllama and the one library that its client side needs are importable there; llama_cpp and tornado are not.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "nbllama").symlink_to(ROOT / "nbllama")
    (starter / "interpreter.json").write_text(json.dumps({"python": sys.executable, "python_path": str(ROOT)}))
    code = (
        "import importlib.util, sys\nassert not any(map(importlib.util.find_spec, ('llama_cpp', 'tornado')))\n" + ENSURE
    )
    first = pid_from(other, cwd=tmp_path, code=code, PYTHONPATH=f"{libraries}{os.pathsep}{_pydantic(tmp_path)}")

    endpoint = connection.ensure()
    assert endpoint.pid == first
    assert endpoint.info["python"] == sys.executable
    assert pid_from(sys.executable, cwd=tmp_path) == first


def test_a_students_queue_py_does_not_reach_the_worker(starter: Path, tmp_path: Path) -> None:
    lesson = tmp_path / "lesson"
    lesson.mkdir()
    for name in ("queue", "json", "asyncio"):
        (lesson / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    # The terminal's own Python is the student's affair; ours runs with -P there, as the command `nbllama` does.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", ENSURE]
    done = subprocess.run(command, cwd=lesson, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert connection.ensure().pid == int(done.stdout.split()[1])


def test_without_home_and_xdg_the_real_worker_starts(starter: Path, tmp_path: Path) -> None:
    names = [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]
    code = f"import os\nfor name in {names}: del os.environ[name]\n" + ENSURE

    assert pid_from(sys.executable, cwd=tmp_path, code=code) == connection.ensure().pid


def test_a_kernels_interrupt_and_its_end_do_not_reach_the_worker(starter: Path) -> None:
    kernel = KernelManager()
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        pids: list[str] = []
        client.execute_interactive(ENSURE, timeout=60, output_hook=lambda m: pids.append(m["content"].get("text", "")))
        pid = int("".join(pids).split()[1])
        running = client.execute("import time; print('runs', flush=True); time.sleep(60)")
        while client.get_iopub_msg(timeout=60)["content"].get("text") != "runs\n":
            pass
        kernel.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != running:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert connection.ensure().pid == pid
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert connection.ensure().pid == pid


def _pydantic(folder: Path) -> Path:
    """A folder with what `wire` imports, and nothing else of this environment."""
    import pydantic

    there, here = Path(pydantic.__file__).parents[1], folder / "pydantic-only"
    here.mkdir()
    for name in ("pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection"):
        (here / name).symlink_to(there / name)
    return here
