"""The key's file: who may read it, what rotates, what two processes that make it at once have in the end."""

from __future__ import annotations

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbllama.cli.main import main
from nbllama.worker import api_key

HUB = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER", "JUPYTERHUB_SERVICE_PREFIX")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    for name in HUB:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def test_a_key_is_made_once_and_stays(data_dir: Path) -> None:
    key = api_key.ensure_key()

    assert api_key.ensure_key() == key
    assert api_key.key_file() == data_dir / "nbllama" / "key"
    assert len(key) > 40
    assert api_key.opens([b"another", key.encode()])
    assert not api_key.opens([b"another", b""])
    assert not api_key.opens([])
    assert [path.name for path in (data_dir / "nbllama").iterdir()] == ["key"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps rights in lists of its own")
def test_it_is_the_users_alone() -> None:
    old = os.umask(0)
    try:
        key = api_key.ensure_key()
    finally:
        os.umask(old)
    path = api_key.key_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    assert not api_key.opens([key.encode()])
    with pytest.raises(api_key.KeyFileError, match="--rotate"):
        api_key.ensure_key()
    assert api_key.opens([api_key.rotate_key().encode()])


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    api_key.ensure_key()
    planted = tmp_path / "planted"
    planted.write_text("planted")
    planted.chmod(0o600)
    api_key.key_file().unlink()
    api_key.key_file().symlink_to(planted)
    assert not api_key.opens([b"planted"])


def test_the_old_key_is_refused_at_once() -> None:
    old = api_key.ensure_key()
    new = api_key.rotate_key()
    assert new != old
    assert not api_key.opens([old.encode()])
    assert api_key.opens([new.encode()])


def test_those_who_make_it_at_once_have_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {future.result() for future in [pool.submit(api_key.ensure_key) for _ in range(8)]}
    assert len(keys) == 1
    assert api_key.opens([keys.pop().encode()])


@pytest.mark.parametrize("name", HUB)
def test_on_a_hub_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = api_key.ensure_key()
    monkeypatch.setenv(name, "something")
    assert not api_key.opens([key.encode()])
    for make in (api_key.ensure_key, api_key.rotate_key):
        with pytest.raises(api_key.KeyFileError, match="Hub"):
            make()


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    first = capsys.readouterr().out.strip()
    assert main(["key"]) == 0
    assert capsys.readouterr().out.strip() == first == api_key.key_file().read_text().strip()
    assert main(["key", "--rotate"]) == 0
    assert capsys.readouterr().out.strip() not in ("", first)
    assert main(["key", "--path"]) == 0
    assert capsys.readouterr().out.strip() == str(api_key.key_file())
