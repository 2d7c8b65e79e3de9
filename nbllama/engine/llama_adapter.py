"""A LoRA adapter on a model, by llama.cpp: loaded onto the model, then set on each of its contexts.

It is freed with its model, which is freed after its contexts; freeing it by hand is not needed.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from nbllama.engine.errors import LoadFailed
from nbllama.engine.gguf_file import check_file
from nbllama.engine.runtime import AdapterInfo

BASE_KEY = "nbllama.base.sha256"
"""Metadata of an adapter's file: the SHA-256 of the one base file that it was trained on. Older ones lack it."""

SCALE = 1.0


@dataclass(frozen=True, slots=True)
class LoraFile:
    """An adapter that was found to fit: `base_sha256` is that of the base file. It brings its own chat template."""

    name: str
    path: Path
    base_sha256: str
    chat_template: str
    merged: bool = False
    """Whether the weights of the model's file hold it already, so that nothing is laid on them."""

    def info(self) -> AdapterInfo:
        return AdapterInfo(self.name, self.path.stat().st_size, self.base_sha256)


def load_adapter(model: Any, file: LoraFile) -> Any:
    """llama.cpp's handle. Raises LoadFailed where the file is broken or made for another base."""
    check_file(file.path)
    adapter = llama_cpp.llama_adapter_lora_init(model, str(file.path).encode("utf-8", "surrogateescape"))
    if not adapter:
        raise LoadFailed(
            f"llama.cpp cannot lay the adapter {file.path} on this model: it is broken, or its tensors are another "
            "model's"
        )
    made_for = _metadata(adapter, BASE_KEY)
    check_base(file.path, made_for, file.base_sha256)
    return adapter


def check_base(adapter: Path, made_for: str | None, base_sha256: str) -> None:
    """Raises LoadFailed where the adapter's file names another base than the one with `base_sha256`."""
    if made_for is not None and made_for != base_sha256:
        raise LoadFailed(
            f"the adapter {adapter} was made for another base: it names the SHA-256 {made_for[:8]}…, "
            f"the base has {base_sha256[:8]}…"
        )


def use_adapter(context: Any, adapter: Any) -> None:
    """From now on every decode of the context goes through the adapter. Raises LoadFailed."""
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(ctypes.cast(adapter, llama_cpp.llama_adapter_lora_p_ctypes))
    scales = (ctypes.c_float * 1)(SCALE)
    code = llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales)
    if code != 0:
        raise LoadFailed(f"llama.cpp cannot use the adapter (code {code})")


def _metadata(adapter: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(256)
    n = llama_cpp.llama_adapter_meta_val_str(adapter, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if n >= 0 else None
