"""Writes a tiny random llama in F32, for tests that compare outputs: quantised weights are not stable enough."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np


def write_tiny_llama(path: Path, vocabulary_from: Path, *, seed: int = 0, width: int = 64, layers: int = 2) -> Path:
    """A model with random weights and the tokenizer of another file. Returns `path`."""
    reader = gguf.GGUFReader(vocabulary_from)
    rng = np.random.default_rng(seed)
    heads, feed_forward = 4, 2 * width
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(reader.fields["tokenizer.ggml.token_type"].contents())
    writer.add_token_merges(reader.fields["tokenizer.ggml.merges"].contents())
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(reader.fields["tokenizer.chat_template"].contents())

    def matrix(rows: int, columns: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(columns), (rows, columns)).astype(np.float32)

    writer.add_tensor("token_embd.weight", matrix(len(tokens), width))
    writer.add_tensor("output.weight", 3 * matrix(len(tokens), width))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    for layer in range(layers):
        prefix = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{prefix}{norm}.weight", np.ones(width, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{prefix}{name}.weight", matrix(width, width))
        writer.add_tensor(f"{prefix}ffn_gate.weight", matrix(feed_forward, width))
        writer.add_tensor(f"{prefix}ffn_up.weight", matrix(feed_forward, width))
        writer.add_tensor(f"{prefix}ffn_down.weight", matrix(width, feed_forward))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_adapter(
    path: Path, *, seed: int = 1, width: int = 64, layers: int = 2, rank: int = 4, base_sha256: str | None = None
) -> Path:
    """A random LoRA adapter for the attention of a tiny llama, large enough to change what it says. Returns `path`."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    if base_sha256 is not None:
        writer.add_string("nbllama.base.sha256", base_sha256)
    for layer in range(layers):
        name = f"blk.{layer}.attn_output.weight"
        writer.add_tensor(f"{name}.lora_a", rng.normal(0, 1, (rank, width)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", rng.normal(0, 1, (width, rank)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
