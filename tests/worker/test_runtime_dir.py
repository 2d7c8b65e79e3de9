"""Nothing in a world-writable folder is trusted before it was looked at."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nbllama.worker import runtime_dir as folder
from nbllama.worker.errors import WorkerError


def test_it_is_made_private(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(runtime / "new"))
    path = folder.runtime_dir()
    path.chmod(0o755)

    assert stat.S_IMODE(folder.runtime_dir().stat().st_mode) == 0o700


def test_without_home_it_is_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NBLLAMA_RUNTIME_DIR", "HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)

    assert folder._location() == Path(f"/tmp/nbllama-{os.getuid()}")


def test_a_link_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "real").mkdir()
    (runtime / "link").symlink_to(runtime / "real")
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(runtime / "link"))

    with pytest.raises(WorkerError, match="is not a folder"):
        folder.runtime_dir()


def test_a_file_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "file").touch()
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(runtime / "file"))

    with pytest.raises(WorkerError):
        folder.runtime_dir()


def test_another_users_folder_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: runtime.stat().st_uid + 1)

    with pytest.raises(WorkerError, match="belongs to user"):
        folder.runtime_dir()


@pytest.mark.parametrize("path", [folder.connection_file, folder.log_file, folder.start_lock, folder.publish_lock])
def test_links_in_the_place_of_files_are_refused(runtime: Path, path: object) -> None:
    place = path()  # type: ignore[operator]
    target = runtime / "precious"
    target.write_text("{}")
    place.symlink_to(target)

    for use in (
        lambda: folder.read_json(place),
        lambda: folder.write_json(place, {}),
        lambda: folder.open_own(place, os.O_RDWR | os.O_CREAT),
        lambda: folder.locked(place, timeout=0).__enter__(),
    ):
        with pytest.raises(WorkerError, match="is not what nbllama puts there"):
            use()
    assert target.read_text() == "{}"


def test_json_is_written_in_one_step_and_private(runtime: Path) -> None:
    path = folder.connection_file()
    folder.write_json(path, {"a": 1})

    assert folder.read_json(path) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(runtime) == [path.name]


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_broken_file_is_none(runtime: Path, text: str) -> None:
    folder.connection_file().write_text(text)

    assert folder.read_json(folder.connection_file()) is None


def test_sockets_of_the_dead_are_removed_and_nothing_else(runtime: Path) -> None:
    dead, alive, foreign = runtime / "p1-999999999.sock", folder.socket_path(os.getpid()), runtime / "p1-999999998.sock"
    sockets = []
    for path in (dead, alive):
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(str(path))
        sockets[-1].close()
    foreign.write_text("mine")
    folder.remove_dead_sockets()

    assert not dead.exists()
    assert alive.exists()
    assert foreign.read_text() == "mine"
    with pytest.raises(WorkerError):
        folder.remove_socket(foreign)


@pytest.mark.skipif(sys.platform != "linux", reason="zombies are told by /proc")
def test_a_zombies_socket_is_removed(runtime: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    path = folder.socket_path(child.pid)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    folder.remove_dead_sockets()

    assert not path.exists()
    child.communicate()


def test_a_file_that_goes_while_it_is_read_is_none(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "check_own", lambda path, kind: True)

    assert folder.read_json(folder.connection_file()) is None


def test_what_was_half_written_is_removed(runtime: Path) -> None:
    folder.write_json(folder.connection_file(), {"pid": 1})
    half = [runtime / f".{path.name}.x1y2z3" for path in (folder.connection_file(), folder.interpreter_file())]
    for path in half:
        path.write_text('{"pi')
    folder.remove_half_written()

    assert [path.name for path in runtime.iterdir()] == [folder.connection_file().name]


def test_a_path_too_long_for_a_socket_is_told(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(runtime / ("x" * 100)))

    with pytest.raises(WorkerError, match="too long for a Unix socket"):
        folder.socket_path(1)


def test_a_lock_excludes_and_is_freed(runtime: Path) -> None:
    path = folder.start_lock()
    with folder.locked(path, timeout=0), pytest.raises(WorkerError, match="another process"):
        folder.locked(path, timeout=0).__enter__()
    with folder.locked(path, timeout=0):
        pass


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs a mount of its own")
@pytest.mark.parametrize(("options", "reason"), [("size=4k", "No space left"), ("ro", "Read-only file system")])
def test_a_full_or_read_only_folder_is_named(tmp_path: Path, options: str, reason: str) -> None:
    use = (
        "from nbllama.worker import connection, starting, runtime_dir\n"
        "starting._has_llama_cpp = lambda: True\n"
        "try:\n    runtime_dir.write_json(runtime_dir.connection_file(), {'a': 'x' * 9000})\n    connection.ensure()\n"
        "except connection.WorkerError as error: print(error)"
    )
    script = f'mount -t tmpfs -o {options},mode=700 none "{tmp_path}" || exit 77; exec "{sys.executable}" -c "{use}"'
    environment = {**os.environ, "NBLLAMA_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment, capture_output=True, text=True)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        done = subprocess.CompletedProcess([], 0, str(folder.unusable(tmp_path, OSError(28, reason))), "")

    assert done.stdout.startswith(f"{tmp_path} cannot be used as the runtime folder: {reason}")
    assert "NBLLAMA_RUNTIME_DIR" in done.stdout
