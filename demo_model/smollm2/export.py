"""Writes the adapter of a checkpoint as a GGUF that llama.cpp loads beside the base.

python -m demo_model.smollm2.export runs/smollm2.pt smollm2-tools.gguf
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from gguf import GGUFWriter
from torch import Tensor

from demo_model.smollm2.base import NAME, find_base
from demo_model.smollm2.model import Lora, SmolLM2

LARGEST = 8_000_000
"""Bytes that an adapter may have, since it comes with the package."""
BASE_KEY = "nbllama.base.sha256"
"""The GGUF key that names the only base which the adapter fits."""


def load_checkpoint(checkpoint: Path, base: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[SmolLM2, str]:
    """The model as a checkpoint left it, and the SHA-256 of the base that it was trained on."""
    state = torch.load(checkpoint, weights_only=True)
    model = SmolLM2(base, Lora(**state["settings"]["lora"]), dtype)
    model.load_state_dict(state["model"])
    return model, state["settings"]["base_sha256"]


def write_adapter(model: SmolLM2, base_sha256: str, path: Path) -> None:
    """The adapter as f16, with the keys that llama.cpp asks for and the base's SHA-256."""
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", model.lora.alpha)
    writer.add_name(f"{NAME}: tool calls")
    writer.add_string(BASE_KEY, base_sha256)
    for name, (a, b) in model.adapter().items():
        writer.add_tensor(f"{name}.lora_a", _half(a))
        writer.add_tensor(f"{name}.lora_b", _half(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _half(tensor: Tensor):  # type: ignore[no-untyped-def]  # numpy's array type has parameters that say nothing here
    return tensor.half().contiguous().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the adapter of a checkpoint as a GGUF.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", type=Path, help="the base GGUF; default: where nbllama keeps it")
    args = parser.parse_args()
    model, base_sha256 = load_checkpoint(args.checkpoint, find_base(args.base))
    write_adapter(model, base_sha256, args.adapter)
    size = args.adapter.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{args.adapter} has {size} bytes, more than {LARGEST}: train with a smaller --rank or --top")
    print(f"{args.adapter}: {size} bytes")


if __name__ == "__main__":
    main()
