"""A source becomes a runtime: what must be true of its file is checked, then llama.cpp or the script loads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbllama.answer.merged_models import merged_file
from nbllama.answer.model_sources import ModelSource, resolve
from nbllama.answer.published_models import Adapter, check_content
from nbllama.engine.errors import LoadFailed
from nbllama.engine.library_trial import crashes_with_amx
from nbllama.engine.runtime import Runtime
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime

if TYPE_CHECKING:
    from nbllama.engine.llama_adapter import LoraFile


class Loader(Protocol):
    """Turns a source into a runtime; blocks, so it is called in a thread. Passes on what `progress` raises."""

    def __call__(self, source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime: ...


def load_runtime(n_threads: int | None, trial_memory: Path | None = None) -> Loader:
    """The loader for real: GGUF files by llama.cpp, scripts by the scripted runtime.

    `trial_memory` is the file that keeps how this build's trial ended; without one there is no trial."""

    def load(source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime:
        if source.kind == "scripted":
            script = Script.load(source.path)
            return ScriptedRuntime(replace(script, n_ctx=ctx) if ctx is not None else script)
        _check_memory(source.path)
        if source.published is not None:
            check_content(source.published, source.path)
        # Imported here: a worker that serves a script needs no llama.cpp, and a missing one is said by name.
        try:
            from nbllama.engine import llama_runtime
        except ImportError as error:
            raise LoadFailed(f"llama-cpp-python is not installed in the worker's environment ({error})") from error
        llama_runtime.initialise()
        threads = n_threads or _threads_for(source.path)
        merged = merged_file(source.path, source.adapter) if source.adapter else None
        without = trial_memory is not None and crashes_with_amx(
            llama_runtime.system_info(), llama_runtime.library_file(), resolve("demo").path, trial_memory
        )
        options = llama_runtime.LlamaOptions(
            n_ctx=ctx,
            n_threads=threads,
            extra_buffers=not without,
            adapter=lora_file(source.adapter, merged=merged is not None),
        )
        return llama_runtime.LlamaRuntime.load(merged or source.path, source.id, options, progress=progress)

    return load


def lora_file(adapter: Adapter | None, *, merged: bool = False) -> LoraFile | None:
    """What the engine needs of an adapter, or of a file that it is merged into. Raises ModelError."""
    if adapter is None:
        return None
    from nbllama.engine.llama_adapter import LoraFile

    return LoraFile(adapter.name, adapter.path, adapter.base_sha256, adapter.chat_template(), merged)


def _threads_for(path: Path) -> int | None:
    # Below some ten million parameters the barriers between threads cost more than a second core brings (measured:
    # the 5 MB demo model answers at about 2,000 tokens/s with one thread).
    return 1 if path.stat().st_size < 20_000_000 else None


def _check_memory(path: Path) -> None:
    """Refuses a file that plainly does not fit, before the machine starts to swap. Raises LoadFailed with numbers."""
    try:
        needed = path.stat().st_size
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _page_cache()
    except (OSError, ValueError, AttributeError):
        return
    if needed > available:
        raise LoadFailed(f"{path} needs {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free")


def default_cache_bytes() -> int:
    """How much a model's prefixes may take outside its cells: an eighth of the machine's memory, at most 2 GiB."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 1 << 30
    return min(2 << 30, total // 8)


def _page_cache() -> int:
    """Bytes of file cache, which the kernel gives back. 0 where /proc does not tell."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields.get("Cached", "0 kB").split()[0]) * 1024
