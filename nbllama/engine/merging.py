"""A LoRA adapter merged into its base: another GGUF file, which generates and reads faster than the two.

What the adapter changes becomes Q8_0: in four bits its changes would drown in the rounding. And the weights that read
the same input (queries, keys and values; gate and up) become one, as llama.cpp's `chatglm` has them, which computes
what `llama` does, to the bit, with fewer steps: at each step the threads wait for one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from nbllama.engine.errors import LoadFailed
from nbllama.engine.llama_adapter import BASE_KEY, check_base

ARCHITECTURE = "chatglm"
TEMPLATE_KEY = "tokenizer.chat_template"
JOINED = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_up": ("ffn_gate", "ffn_up")}
"""Weight of the merged file → those of the base that it is made of, one behind the other."""
ALONE = ("attn_norm", "attn_output", "ffn_norm", "ffn_down")
OUTSIDE = ("token_embd.weight", "output_norm.weight", "output.weight")
FLOATS = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)


def merge(base: Path, adapter: Path, target: Path, *, base_sha256: str, chat_template: str) -> None:
    """Writes `target`, with `chat_template`. Blocks for seconds.

    Raises LoadFailed where the adapter is for another base or the base is no plain llama; OSError."""
    reader, changes = gguf.GGUFReader(base), Changes(adapter, base_sha256)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    if architecture != "llama":
        # Gemma's weights have the same names, and are computed otherwise.
        raise LoadFailed(
            f"{base} is of architecture {architecture}, and only a llama can have an adapter merged into it"
        )
    changes.check({name: tuple(map(int, tensor.shape)) for name, tensor in tensors.items()})
    parts = list(_parts(tensors, base))
    writer = gguf.GGUFWriter(target, ARCHITECTURE)
    try:
        _copy_metadata(reader, writer, chat_template)
        for name, names in parts:
            data, kind = _joined([tensors[part] for part in names], changes)
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


class Changes:
    """What an adapter adds to each weight. Raises LoadFailed where it names another base."""

    def __init__(self, adapter: Path, base_sha256: str) -> None:
        try:
            reader = gguf.GGUFReader(adapter)
        except ValueError as error:
            raise LoadFailed(f"the adapter {adapter} is broken: {error}") from error
        made_for, alpha = reader.fields.get(BASE_KEY), reader.fields.get("adapter.lora.alpha")
        check_base(adapter, None if made_for is None else str(made_for.contents()), base_sha256)
        if alpha is None:
            raise LoadFailed(f"the adapter {adapter} is broken: adapter.lora.alpha is missing")
        self._path, self._alpha = adapter, float(alpha.contents())
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises LoadFailed for a change of a weight that the base has not, or has in another shape.

        `shapes` are the base's as GGUF tells them, (inputs, outputs)."""
        for name in dict.fromkeys(tensor.rpartition(".lora_")[0] for tensor in self._tensors):
            a, b = (self._tensors.get(f"{name}.lora_{which}") for which in "ab")
            if a is None or b is None or (a.shape[0], b.shape[1]) != shapes.get(name) or a.shape[1] != b.shape[0]:
                raise LoadFailed(
                    f"the adapter {self._path} does not fit: what it changes of {name or 'a weight'} is another model's"
                )

    def of(self, name: str) -> npt.NDArray[np.float32] | None:
        """Shape of the weight, (outputs, inputs); None for one that stays as it is."""
        if f"{name}.lora_a" not in self._tensors:
            return None
        a, b = (self._tensors[f"{name}.lora_{which}"] for which in "ab")
        a, b = (gguf.quants.dequantize(one.data, one.tensor_type) for one in (a, b))
        change: npt.NDArray[np.float32] = self._alpha / a.shape[0] * (b @ a)
        return change


def _parts(tensors: dict[str, Any], base: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each weight of the merged file, and those of the base in it. Raises LoadFailed where one would be left over."""
    layers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("blk.")})
    found: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in OUTSIDE if name in tensors]
    for layer in layers:
        for joined, names in (*JOINED.items(), *((name, (name,)) for name in ALONE)):
            found.append((f"blk.{layer}.{joined}.weight", tuple(f"blk.{layer}.{name}.weight" for name in names)))
    if {part for _, parts in found for part in parts} != set(tensors):
        raise LoadFailed(f"{base} has other weights than a plain llama, so an adapter cannot be merged into it")
    yield from found


def _joined(parts: list[Any], changes: Changes) -> tuple[npt.NDArray[Any], gguf.GGMLQuantizationType]:
    added = [changes.of(part.name) for part in parts]
    kind = parts[0].tensor_type
    if all(one is None for one in added) and all(part.tensor_type == kind for part in parts):
        return np.concatenate([part.data for part in parts]), kind
    kind = kind if kind in FLOATS else gguf.GGMLQuantizationType.Q8_0
    rows = []
    for part, change in zip(parts, added, strict=True):
        weight = gguf.quants.dequantize(part.data, part.tensor_type)
        rows.append(gguf.quants.quantize(weight if change is None else weight + change, kind))
    return np.concatenate(rows), kind


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, chat_template: str) -> None:
    was = str(reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", TEMPLATE_KEY):
            continue
        item = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        own = ARCHITECTURE + name.removeprefix(was) if name.startswith(f"{was}.") else name
        writer.add_key_value(own, field.contents(), field.types[0], item)
    writer.add_chat_template(chat_template)
