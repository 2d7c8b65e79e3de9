"""A LoRA adapter merged into its base in other ways than nbllama's own: for the question which is fast, and as good.

    python benchmarks/merging.py TARGET.gguf [--quantisation Q8_0]

writes `smollm2` so, with the adapter's chat template, as a model to load by its path.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

from nbllama.answer.published_models import SMOLLM2, Adapter, find_published
from nbllama.engine.merging import TEMPLATE_KEY, Changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--quantisation", help="of the tensors that change (default: the base's own)")
    arguments = parser.parse_args()
    base = find_published(SMOLLM2)
    if base is None or SMOLLM2.adapter is None:
        raise SystemExit("run first: nbllama models get smollm2")
    print(merge_apart(base, SMOLLM2.adapter, arguments.target, quantisation=arguments.quantisation))


def merge_apart(base: Path, adapter: Adapter, target: Path, *, quantisation: str | None) -> Path:
    """Writes `target` with the adapter's changes in the weights, which stay apart as in the base, and its template.

    `quantisation`: the type of the changed tensors, as `Q8_0`; None keeps the base's own. Returns `target`."""
    reader = gguf.GGUFReader(base)
    changes = Changes(adapter.path, adapter.base_sha256)
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


if __name__ == "__main__":
    main()
