"""An adapter merged into its base says what the two say, on the real llama.cpp, with tiny random weights in F32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from nbllama.engine.errors import LoadFailed
from nbllama.engine.llama_adapter import LoraFile
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime, initialise
from nbllama.engine.merging import FLOATS, merge
from nbllama.engine.runtime import Row
from tests.engine.tiny_gguf import write_tiny_adapter, write_tiny_llama

DEMO = Path(__file__).parents[2] / "nbllama" / "models" / "demo.gguf"
TEMPLATE = "{{ messages }} of the adapter"
PROMPT = [20, 30, 40, 50]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    initialise()
    return write_tiny_llama(tmp_path_factory.mktemp("base") / "tiny.gguf", DEMO)


def logits(path: Path, adapter: Path | None = None, *, merged: bool = False) -> npt.NDArray[np.float32]:
    lora = LoraFile("tiny-tools", adapter, "c0ffee", TEMPLATE, merged) if adapter else None
    options = LlamaOptions(n_ctx=64, n_threads=1, flash_attention=False, f32_cells=True, adapter=lora)
    runtime = LlamaRuntime.load(path, "tiny", options)
    runtime.decode([Row(id, place, 0, place == len(PROMPT) - 1) for place, id in enumerate(PROMPT)])
    found = runtime.logits(len(PROMPT) - 1).copy()
    runtime.close()
    return found


def test_the_merged_file_says_what_base_and_adapter_say(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf", base_sha256="c0ffee")
    merge(base, adapter, tmp_path / "merged.gguf", base_sha256="c0ffee", chat_template=TEMPLATE)
    together = logits(base, adapter)
    assert np.abs(together - logits(base)).max() > 0.1, "the adapter changes nothing: the test would see nothing"
    assert np.allclose(logits(tmp_path / "merged.gguf", adapter, merged=True), together, atol=1e-3)


def test_what_changes_becomes_q8_0_and_the_rest_stays_to_the_bit(base: Path, tmp_path: Path) -> None:
    coarse = _quantised(base, tmp_path / "coarse.gguf")
    adapter = write_tiny_adapter(tmp_path / "a.gguf")
    merge(coarse, adapter, tmp_path / "merged.gguf", base_sha256="c0ffee", chat_template=TEMPLATE)
    before, after = (
        {one.name: one for one in gguf.GGUFReader(path).tensors} for path in (coarse, tmp_path / "merged.gguf")
    )
    assert after["blk.0.attn_output.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert after["blk.1.ffn_down.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_1
    parts = [before[f"blk.1.attn_{which}.weight"].data for which in "qkv"]
    assert np.array_equal(after["blk.1.attn_qkv.weight"].data, np.concatenate(parts))
    assert np.abs(logits(tmp_path / "merged.gguf") - logits(coarse, adapter)).max() < 0.2


def test_an_adapter_for_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf", base_sha256="1" * 64)
    with pytest.raises(LoadFailed, match="it names the SHA-256 11111111…, the base has 22222222…"):
        merge(base, adapter, tmp_path / "merged.gguf", base_sha256="2" * 64, chat_template=TEMPLATE)
    assert not (tmp_path / "merged.gguf").exists()


@pytest.mark.parametrize("other", [{"width": 32}, {"layers": 9}])
def test_an_adapter_that_changes_other_weights_is_refused(base: Path, tmp_path: Path, other: Any) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf", **other)
    with pytest.raises(LoadFailed, match=r"a\.gguf does not fit: what it changes of blk\..*attn_output\.weight"):
        merge(base, adapter, tmp_path / "merged.gguf", base_sha256="c0ffee", chat_template=TEMPLATE)
    assert not (tmp_path / "merged.gguf").exists()


def test_a_base_of_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf")
    gemma = _quantised(base, tmp_path / "gemma.gguf", architecture="gemma")
    with pytest.raises(LoadFailed, match="is of architecture gemma, and only a llama"):
        merge(gemma, adapter, tmp_path / "merged.gguf", base_sha256="c0ffee", chat_template=TEMPLATE)


def test_a_base_with_weights_that_would_be_lost_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_adapter(tmp_path / "a.gguf")
    biased = _quantised(base, tmp_path / "biased.gguf", more="blk.0.attn_q.bias")
    with pytest.raises(LoadFailed, match="other weights than a plain llama"):
        merge(biased, adapter, tmp_path / "merged.gguf", base_sha256="c0ffee", chat_template=TEMPLATE)


def _quantised(base: Path, target: Path, *, more: str | None = None, architecture: str = "llama") -> Path:
    """`base` with its matrices in Q4_1, and a tensor `more`."""
    reader, writer = gguf.GGUFReader(base), gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            item = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], item)
    for tensor in reader.tensors:
        matrix = len(tensor.shape) > 1 and tensor.tensor_type in FLOATS
        kind = gguf.GGMLQuantizationType.Q4_1 if matrix else tensor.tensor_type
        writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.data, kind), raw_dtype=kind)
    if more:
        writer.add_tensor(more, np.zeros(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
