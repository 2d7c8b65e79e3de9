"""Writes the demo model of a checkpoint as a GGUF that llama.cpp runs by itself: weights, tokenizer and chat template.

python -m demo_model.demo.export runs/demo.pt nbllama/models/demo.gguf
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, quants
from tokenizers import Tokenizer
from torch import Tensor

import nbllama
from demo_model.demo.model import EPS, DemoModel, Size
from demo_model.demo.stages import CONTEXT
from demo_model.demo.tokenizer import CONTROL, END_OF_TEXT, END_OF_TURN, PRE_TOKENIZER, TAGS

LARGEST = 8_000_000
"""Bytes that the model may have, since it comes with the package."""
NAME, LICENSE = "nbllama demo", "mit"
TEMPLATE = Path(nbllama.__file__).parent / "models" / "smollm2-tools.jinja"
Q8_0, F32 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32


def load_checkpoint(checkpoint: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[DemoModel, Tokenizer]:
    """The model as a checkpoint left it, and its tokenizer."""
    state = torch.load(checkpoint, weights_only=True)
    model = DemoModel(Size(**state["settings"]["size"]), dtype)
    model.load_state_dict(state["model"])
    return model, Tokenizer.from_str(state["settings"]["tokenizer"])


def write_gguf(model: DemoModel, tokenizer: Tokenizer, path: Path, *, quantised: bool = True) -> None:
    """The whole model; with `quantised` its matrices are Q8_0, else F32."""
    writer = GGUFWriter(path, "llama")
    _add_sizes(writer, model.size)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quantised else LlamaFileType.ALL_F32)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in tensors(model):
        array = tensor.detach().float().contiguous().numpy()
        if quantised and array.ndim == 2:
            writer.add_tensor(name, quants.quantize(array, Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(name, array, raw_dtype=F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: GGUFWriter, size: Size) -> None:
    writer.add_name(NAME)
    writer.add_description("A tiny model for tests and demonstrations, trained from scratch on synthetic dialogues")
    writer.add_license(LICENSE)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.hidden)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.key_heads)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(size.head_width)
    writer.add_rope_freq_base(size.rope_base)
    writer.add_vocab_size(size.vocabulary)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([_type(token) for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(END_OF_TURN))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))


def _type(token: str) -> TokenType:
    if token in CONTROL:
        return TokenType.CONTROL
    # Not control: what the model writes between tags has to come out as text.
    return TokenType.USER_DEFINED if token in TAGS else TokenType.NORMAL


def tensors(model: DemoModel) -> Iterator[tuple[str, Tensor]]:
    """llama.cpp's names, and the tensors as it wants them."""
    size = model.size
    of_key = size.key_heads * size.head_width
    yield "token_embd.weight", model.embeddings
    yield "output_norm.weight", model.gain
    for index, layer in enumerate(model.layers):
        matrices: dict[str, Any] = {"attn_output": layer.out.weight, "ffn_down": layer.down.weight}
        qkv = layer.qkv.weight.split([size.width, of_key, of_key])
        matrices |= dict(zip(("attn_q", "attn_k", "attn_v"), qkv, strict=True))
        matrices |= dict(zip(("ffn_gate", "ffn_up"), layer.gate_up.weight.chunk(2), strict=True))
        matrices |= {"attn_norm": layer.ones, "ffn_norm": layer.ones}
        for name, tensor in matrices.items():
            yield f"blk.{index}.{name}.weight", tensor


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the demo model of a checkpoint as a GGUF.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("gguf", type=Path)
    args = parser.parse_args()
    write_gguf(*load_checkpoint(args.checkpoint), args.gguf)
    size = args.gguf.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{args.gguf} has {size} bytes, more than {LARGEST}: train with fewer --layers")
    print(f"{args.gguf}: {size} bytes")


if __name__ == "__main__":
    main()
