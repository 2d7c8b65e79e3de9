"""A LoRA adapter merged into its base: another GGUF file, for the question whether it is faster, and as good.

    python benchmarks/merging.py TARGET.gguf [--quantisation Q8_0]

writes `smollm2` so, with the adapter's chat template, as a model to load by its path. Needs the `gguf` package.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from nbllama.answer.published_models import SMOLLM2, Adapter, find_published

TEMPLATE_KEY = "tokenizer.chat_template"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--quantisation", help="of the tensors that change (default: the base's own)")
    arguments = parser.parse_args()
    base = find_published(SMOLLM2)
    if base is None or SMOLLM2.adapter is None:
        raise SystemExit("run first: nbllama models get smollm2")
    print(merge(base, SMOLLM2.adapter, arguments.target, quantisation=arguments.quantisation))


def merge(base: Path, adapter: Adapter, target: Path, *, quantisation: str | None) -> Path:
    """Writes `target` with the adapter's changes in the weights, and its chat template. Returns `target`.

    `quantisation`: the type of the changed tensors, as `Q8_0`; None keeps the base's own."""
    reader = gguf.GGUFReader(base)
    changes = Changes(adapter.path)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            item = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            value = adapter.chat_template() if name == TEMPLATE_KEY else field.contents()
            writer.add_key_value(name, value, field.types[0], item)
    for tensor in reader.tensors:
        change = changes.of(tensor.name)
        data, kind = tensor.data, tensor.tensor_type
        if change is not None:
            kind = gguf.GGMLQuantizationType[quantisation] if quantisation else kind
            weights = gguf.quants.dequantize(data, tensor.tensor_type) + change
            data = gguf.quants.quantize(weights.astype(np.float32), kind)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


class Changes:
    """What an adapter adds to each weight."""

    def __init__(self, adapter: Path) -> None:
        reader = gguf.GGUFReader(adapter)
        self._alpha = float(reader.fields["adapter.lora.alpha"].contents())
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}

    def of(self, name: str) -> npt.NDArray[np.float32] | None:
        """Shape of the weight, (outputs, inputs); None for one that stays as it is."""
        if f"{name}.lora_a" not in self._tensors:
            return None
        a, b = (self._tensors[f"{name}.lora_{which}"].data.astype(np.float32) for which in "ab")
        change: npt.NDArray[np.float32] = self._alpha / a.shape[0] * (b @ a)
        return change


if __name__ == "__main__":
    main()
