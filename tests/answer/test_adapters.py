"""A published model with an adapter of ours, through the whole service: tiny random weights, the real llama.cpp."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer import published_models
from nbllama.answer.merged_models import FOLDER, merged_file
from nbllama.answer.published_models import SMOLLM2, Adapter, Published
from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.wire.errors import ServerFault
from tests.engine.tiny_gguf import write_tiny_adapter, write_tiny_llama

DEMO = Path(__file__).parents[2] / "nbllama" / "models" / "demo.gguf"


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_llama(tmp_path_factory.mktemp("base") / "tiny.gguf", DEMO).read_bytes()


@pytest.fixture
def taught(cache: Path, base_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """`taught` is a base with an adapter, `taught:base` is that base; both are in the cache."""
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(base_file)
    sha256 = hashlib.sha256(base_file).hexdigest()
    assert SMOLLM2.adapter is not None
    template = SMOLLM2.adapter.template
    adapter = Adapter("tiny-tools", write_tiny_adapter(tmp_path / "a.gguf", base_sha256=sha256), template, sha256)
    base = replace(
        SMOLLM2,
        id="taught:base",
        name="Tiny",
        module="nbllama_test_none",
        file="tiny.gguf",
        size=len(base_file),
        sha256=sha256,
        adapter=None,
    )
    taught = replace(base, id="taught", adapter=adapter)
    for one in (base, taught):
        monkeypatch.setitem(published_models.PUBLISHED, one.id, one)
    return taught


def run(work: Any) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


async def ask(service: Service, model: str, id: str) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 12, "messages": [{"role": "user", "content": "Tell me of the quick fox"}]}
    answer = await service.messages(json.dumps(body).encode(), client="local", request_id=id)
    async for _ in answer.events():
        pass
    message: dict[str, Any] = service.trace(id, "local")["message"]
    return message


def test_base_and_adapter_are_two_models_that_share_no_prefix(taught: Published) -> None:
    async def check() -> None:
        service = Service(ServiceSettings(model="taught", ctx=256))
        await service.start()
        try:
            await service.load("taught:base")
            first = [await ask(service, model, f"1 {model}") for model in ("taught", "taught:base")]
            again = [await ask(service, model, f"2 {model}") for model in ("taught", "taught:base")]
        finally:
            await service.close()
        assert [message["usage"]["cache_read_input_tokens"] for message in first] == [0, 0]
        assert all(message["usage"]["cache_read_input_tokens"] > 0 for message in again)
        assert first[0]["content"] != first[1]["content"], "the adapter changes nothing: the test would see nothing"

    run(check())


def test_what_is_told_of_an_adapter(taught: Published) -> None:
    async def check() -> None:
        service = Service(ServiceSettings(model="taught", ctx=256))
        await service.start()
        try:
            before = service.models()[0]
            status = await service.load("taught")
            plain = await service.load("taught:base")
            info, base_info = service.models()
        finally:
            await service.close()
        assert taught.adapter is not None
        facts = {
            "name": "tiny-tools",
            "size_bytes": taught.adapter.path.stat().st_size,
            "base_sha256": taught.sha256,
        }
        assert status["adapter"] == info["nbllama"]["adapter"] == before["nbllama"]["adapter"] == facts
        assert (status["supports_tools"], status["supports_thinking"]) == (True, True)
        assert info["capabilities"]["thinking"]["supported"] is True
        assert (info["display_name"], base_info["display_name"]) == ("Tiny + tiny-tools", "Tiny")
        assert plain["adapter"] is None and "nbllama" not in base_info

    run(check())


async def refusal(model: str) -> str:
    service = Service(ServiceSettings(model=model, ctx=256))
    await service.start()
    try:
        with pytest.raises(ServerFault) as told:
            await service.load(model)
        assert service.status()["models"][0]["state"] == "failed"
        return str(told.value)
    finally:
        await service.close()


def test_an_adapter_of_another_base_is_refused(taught: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taught.adapter is not None
    other = replace(taught, adapter=replace(taught.adapter, base_sha256="0" * 64))
    monkeypatch.setitem(published_models.PUBLISHED, "taught", other)
    said = asyncio.run(refusal("taught"))
    assert "the adapter tiny-tools was made for another base (SHA-256 00000000…)" in said
    assert "its base alone can: taught:base" in said


def test_an_adapter_whose_file_names_another_base_is_refused(taught: Published) -> None:
    assert taught.adapter is not None
    write_tiny_adapter(taught.adapter.path, base_sha256="1" * 64)
    assert "was made for another base: it names the SHA-256 11111111…" in asyncio.run(refusal("taught"))


@pytest.mark.parametrize("model", ["taught", "taught:base"])
def test_a_half_written_base_is_not_loaded(taught: Published, cache: Path, base_file: bytes, model: str) -> None:
    half = len(base_file) // 2
    (cache / "tiny.gguf").write_bytes(base_file[:half] + bytes(len(base_file) - half))
    said = asyncio.run(refusal(model))
    assert "tiny.gguf is half written or was changed" in said
    assert f"fetch it again: nbllama models get {model}" in said


def test_an_adapter_that_is_missing_is_said(taught: Published) -> None:
    assert taught.adapter is not None
    taught.adapter.path.unlink()
    assert "the adapter tiny-tools, a part of nbllama, cannot be read" in asyncio.run(refusal("taught"))


async def answer_of(model: str) -> list[dict[str, Any]]:
    service = Service(ServiceSettings(model=model, ctx=256))
    await service.start()
    try:
        found: list[dict[str, Any]] = (await ask(service, model, "1"))["content"]
        return found
    finally:
        await service.close()


def merged_files(cache: Path) -> list[Path]:
    return sorted((cache / FOLDER).iterdir()) if (cache / FOLDER).is_dir() else []


def test_the_merged_file_is_written_once_and_anew_for_another_adapter(taught: Published, cache: Path) -> None:
    asyncio.run(answer_of("taught:base"))
    assert merged_files(cache) == [], "the base alone needs none"
    first = asyncio.run(answer_of("taught"))
    (written,) = merged_files(cache)
    age = written.stat().st_mtime_ns
    assert asyncio.run(answer_of("taught")) == first
    assert [path.stat().st_mtime_ns for path in merged_files(cache)] == [age]
    assert taught.adapter is not None
    write_tiny_adapter(taught.adapter.path, seed=7, base_sha256=taught.sha256)
    assert asyncio.run(answer_of("taught")) != first
    (other,) = merged_files(cache)
    assert other != written


def test_a_merged_file_that_was_cut_short_is_made_again(taught: Published, cache: Path) -> None:
    first = asyncio.run(answer_of("taught"))
    (written,) = merged_files(cache)
    whole = written.read_bytes()
    written.write_bytes(whole[: len(whole) // 2])
    killed, beside = cache / FOLDER / ".half-killed", cache / FOLDER / ".half-beside"
    for half in (killed, beside):
        half.write_bytes(b"GGUF")
    os.utime(killed, (1_000_000_000, 1_000_000_000))
    assert asyncio.run(answer_of("taught")) == first
    assert merged_files(cache) == [beside, written], "what another worker may be writing stays"
    assert written.read_bytes() == whole


def test_a_full_disk_leaves_nothing_and_the_adapter_is_used(
    taught: Published, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fill(base: Path, adapter: Path, target: Path, **_: str) -> None:
        target.write_bytes(base.read_bytes()[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nbllama.engine.merging.merge", fill)
        beside = asyncio.run(answer_of("taught"))
    assert merged_files(cache) == []
    said = [record.getMessage() for record in caplog.records if record.name == "nbllama.answer.merged_models"]
    assert len(said) == 1
    assert said[0].endswith("cannot be written (No space left on device): the adapter is used beside its base, slower")
    assert asyncio.run(answer_of("taught")) == beside, "merged, it answers alike"


def test_what_a_faster_worker_has_written_and_holds_open_is_used(
    taught: Published, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def held_open(half: Path, target: Path) -> None:
        shutil.copyfile(half, target)
        raise PermissionError(errno.EACCES, "used by another process")

    assert taught.adapter is not None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", held_open)
        used = merged_file(cache / "tiny.gguf", taught.adapter)
    assert [used] == merged_files(cache) and caplog.text == ""


def test_a_cache_that_cannot_be_written_is_said_and_the_adapter_is_used(
    taught: Published, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / FOLDER).write_text("a file where the folder should be")
    assert asyncio.run(answer_of("taught")) != asyncio.run(answer_of("taught:base"))
    assert "the adapter is used beside its base, slower" in caplog.text
