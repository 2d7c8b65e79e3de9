"""An adapter on the real llama.cpp, with tiny random weights in F32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nbllama.engine.errors import LoadFailed
from nbllama.engine.llama_adapter import LoraFile
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime, initialise
from nbllama.engine.runtime import AdapterInfo, Row
from tests.engine.tiny_gguf import write_tiny_adapter, write_tiny_llama

DEMO = Path(__file__).parents[2] / "nbllama" / "models" / "demo.gguf"
TEMPLATE = "{{ messages }} of the adapter"
PROMPT = [20, 30, 40, 50]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    initialise()
    return write_tiny_llama(tmp_path_factory.mktemp("base") / "tiny.gguf", DEMO)


def load(base: Path, adapter: Path | None = None) -> LlamaRuntime:
    lora = LoraFile("tiny-tools", adapter, "c0ffee", TEMPLATE) if adapter else None
    options = LlamaOptions(n_ctx=64, n_threads=1, flash_attention=False, f32_cells=True, adapter=lora)
    return LlamaRuntime.load(base, "tiny", options)


def logits(runtime: LlamaRuntime) -> npt.NDArray[np.float32]:
    """After a prompt; closes the runtime."""
    runtime.decode([Row(id, place, 0, place == len(PROMPT) - 1) for place, id in enumerate(PROMPT)])
    found = runtime.logits(len(PROMPT) - 1).copy()
    runtime.close()
    return found


def test_an_adapter_changes_what_is_said_and_the_base_beside_it_stays(base: Path, tmp_path: Path) -> None:
    alone = logits(load(base))
    adapter = write_tiny_adapter(tmp_path / "a.gguf", base_sha256="c0ffee")
    beside, adapted = load(base), load(base, adapter)
    with_adapter = logits(adapted)
    assert np.abs(with_adapter - alone).max() > 0.1
    assert np.allclose(logits(beside), alone, atol=1e-5)
    assert np.allclose(logits(load(base, adapter)), with_adapter, atol=1e-5)


def test_it_is_told_and_brings_its_template(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf")
    runtime = load(base, adapter)
    runtime.close()
    assert runtime.info.adapter == AdapterInfo("tiny-tools", adapter.stat().st_size, "c0ffee")
    assert runtime.info.chat_template == TEMPLATE


def test_loading_and_closing_again_and_again_frees_everything(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf")
    for _ in range(10):
        runtime = load(base, adapter)
        runtime.decode([Row(20, 0, 0, True)])
        runtime.close()
        runtime.close()


def test_other_shapes_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "wide.gguf", width=32)
    with pytest.raises(LoadFailed, match=r"wide\.gguf on this model: it is broken, or its tensors are another model's"):
        load(base, adapter)


def test_layers_that_the_base_lacks_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "deep.gguf", layers=3)
    with pytest.raises(LoadFailed, match=r"deep\.gguf on this model"):
        load(base, adapter)


def test_an_adapter_that_names_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf", base_sha256="badc0de")
    with pytest.raises(LoadFailed, match="made for another base: it names the SHA-256 badc0de…, the base has c0ffee…"):
        load(base, adapter)


def test_what_is_no_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="cannot lay the adapter"):
        load(base, base)
    (tmp_path / "cut.gguf").write_bytes(write_tiny_adapter(tmp_path / "a.gguf").read_bytes()[:3000])
    with pytest.raises(LoadFailed, match=r"cut\.gguf"):
        load(base, tmp_path / "cut.gguf")
    with pytest.raises(LoadFailed, match=r"cannot read .*none\.gguf"):
        load(base, tmp_path / "none.gguf")
