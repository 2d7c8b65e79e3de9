"""SmolLM2 in torch, from the GGUF that llama.cpp runs, with LoRA on its upper layers.

Everything stands as in the file: the same quantised weights (dequantised once), and rotary positions that turn
neighbouring pairs. So what is learnt here fits llama.cpp without a permutation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, quants
from torch import Tensor, nn

from demo_model.packing import Branch, Pack, Sample
from demo_model.packing import pack as pack_samples
from demo_model.smollm2.attention import Attention, Chunk, Heads, chunks
from demo_model.smollm2.kernels import RmsNorm, SwiGlu, TiedCrossEntropy

Load = Callable[[str], Tensor]
ROW_STEP = 128
"""Rows are filled up to a multiple of this: the products of a step with a new number of rows cost 10 ms more each."""


def _padding(pack: Pack) -> int:
    return -len(pack.ids) % ROW_STEP


@dataclass(frozen=True)
class Lora:
    """Size of the adapter: `rank`, `alpha` (the scale is alpha / rank), and how many of the top layers have one."""

    rank: int = 16
    alpha: float = 32.0
    top: int = 20


@dataclass(frozen=True)
class Shape:
    """The network's sizes, as its GGUF states them."""

    layers: int
    heads: Heads
    rope_base: float
    eps: float

    @classmethod
    def of(cls, reader: GGUFReader) -> Shape:
        def value(key: str) -> Any:
            return reader.fields[f"llama.{key}"].contents()

        heads = Heads(value("attention.head_count"), value("attention.head_count_kv"), value("rope.dimension_count"))
        eps = value("attention.layer_norm_rms_epsilon")
        return cls(value("block_count"), heads, value("rope.freq_base"), eps)


class _LoraProduct(torch.autograd.Function):
    """x·Wᵀ + (x·Aᵀ)·B, where W gets no gradient. B is (rank, outputs): the products with it are faster so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        inner = x @ a.t()
        ctx.save_for_backward(x, weight, a, b, inner)
        # In place: the same sum as a product of its own took 2.0 ms instead of 1.1 for 2,048 x 3,072.
        return (x @ weight.t()).addmm_(inner, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor]:
        x, weight, a, b, inner = ctx.saved_tensors
        by_inner = grads[0] @ b.t()
        by_x = (grads[0] @ weight).addmm_(by_inner, a) if ctx.needs_input_grad[0] else None
        # Contiguous first: 1.2 ms instead of 1.7 for 3,072 outputs.
        by_b = inner.t().contiguous() @ grads[0]
        return by_x, None, by_inner.t().contiguous() @ x, by_b


class Linear(nn.Module):
    """One or more of the model's matrices that read the same input, as one product; with LoRA if `lora` is given.

    `names` are those of the GGUF, each with `outputs`. `a` holds their A matrices above one another
    (names x rank, inputs), `b` their transposed B side by side (rank, outputs).
    """

    def __init__(self, load: Load, names: Sequence[str], dtype: torch.dtype, lora: Lora | None) -> None:
        super().__init__()
        loaded = [load(name) for name in names]
        self.names, self.outputs = list(names), [len(weight) for weight in loaded]
        self.register_buffer("weight", torch.cat(loaded).to(dtype), persistent=False)
        self.lora = lora
        if lora:
            inputs = loaded[0].shape[1]
            self.a = nn.Parameter(torch.randn(lora.rank * len(names), inputs) * inputs**-0.5)
            self.b = nn.Parameter(torch.zeros(lora.rank, sum(self.outputs)))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if not self.lora:
            return x @ weight.t()
        product: Tensor = _LoraProduct.apply(x, weight, self.a.to(x.dtype), self._blocks().to(x.dtype))
        return product

    def _blocks(self) -> Tensor:
        """(names x rank, outputs): every matrix's B meets only its own A."""
        assert self.lora
        scaled = self.b * (self.lora.alpha / self.lora.rank)
        return torch.block_diag(*scaled.split(self.outputs, 1)) if len(self.names) > 1 else scaled

    def adapter(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name of the GGUF's matrix → its A (rank, inputs) and B (outputs, rank), as llama.cpp reads them."""
        assert self.lora
        pairs = zip(self.a.split(self.lora.rank), self.b.split(self.outputs, 1), strict=True)
        return {name: (a.detach(), b.detach().t()) for name, (a, b) in zip(self.names, pairs, strict=True)}


@dataclass(frozen=True)
class Layout:
    """What every layer needs to know of a pack: who sees whom, and where each row stands."""

    parts: list[Chunk]
    cos: Tensor
    sin: Tensor


class Layer(nn.Module):
    """A transformer block."""

    def __init__(self, load: Load, index: int, shape: Shape, dtype: torch.dtype, lora: Lora | None) -> None:
        super().__init__()
        self.shape, self.adapted = shape, lora is not None

        def linear(*names: str) -> Linear:
            return Linear(load, [f"blk.{index}.{name}.weight" for name in names], dtype, lora)

        self.register_buffer("attention_norm", load(f"blk.{index}.attn_norm.weight"), persistent=False)
        self.register_buffer("mlp_norm", load(f"blk.{index}.ffn_norm.weight"), persistent=False)
        self.qkv, self.out = linear("attn_q", "attn_k", "attn_v"), linear("attn_output")
        self.gate_up, self.down = linear("ffn_gate", "ffn_up"), linear("ffn_down")

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        qkv = self.qkv(RmsNorm.apply(x, self.attention_norm, self.shape.eps))
        keep = self.adapted and torch.is_grad_enabled()
        x = x + self.out(Attention.apply(qkv, layout.cos, layout.sin, layout.parts, self.shape.heads, keep))
        hidden = SwiGlu.apply(self.gate_up(RmsNorm.apply(x, self.mlp_norm, self.shape.eps)))
        summed: Tensor = x + self.down(hidden)
        return summed


class SmolLM2(nn.Module):
    """The model. Its parameters are the adapter's; the weights of the file are buffers that no checkpoint holds."""

    def __init__(self, path: Path, lora: Lora, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        reader = GGUFReader(path)
        tensors = {tensor.name: tensor for tensor in reader.tensors}

        def load(name: str) -> Tensor:
            tensor = tensors[name]
            return torch.from_numpy(quants.dequantize(tensor.data, tensor.tensor_type).copy())

        self.shape, self.lora = Shape.of(reader), lora
        self.register_buffer("embeddings", load("token_embd.weight").to(dtype), persistent=False)
        self.register_buffer("norm", load("output_norm.weight"), persistent=False)
        first = self.shape.layers - lora.top
        self.layers = nn.ModuleList(
            Layer(load, index, self.shape, dtype, lora if index >= first else None)
            for index in range(self.shape.layers)
        )

    def hidden(self, pack: Pack) -> Tensor:
        """What the last layer says at every row: (rows and padding, width), normalised."""
        layout, padding = self._layout(pack), _padding(pack)
        x = self.get_buffer("embeddings")[torch.tensor(pack.ids + [0] * padding)]
        for layer in self.layers:
            # Below the first adapted layer nothing is learnt, so nothing is kept.
            with torch.set_grad_enabled(torch.is_grad_enabled() and layer.adapted):
                x = layer(x, layout)
        normed: Tensor = RmsNorm.apply(x, self.norm, self.shape.eps)
        return normed

    def loss(self, pack: Pack) -> Tensor:
        """The mean of -log p over the tokens that are learnt. The output head runs for these alone."""
        chosen = self.hidden(pack)[torch.tensor(pack.sources)]
        total: Tensor = TiedCrossEntropy.apply(chosen, self.embeddings, torch.tensor(pack.targets))
        return total / len(pack.targets)

    @torch.no_grad()
    def logits(self, ids: list[int]) -> Tensor:
        """(tokens, vocabulary) in fp32, for one text."""
        whole = pack_samples([Sample([], [Branch(ids, [False] * len(ids))])])
        return (self.hidden(whole)[: len(ids)] @ self.get_buffer("embeddings").t()).float()

    def adapter(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name of the GGUF's matrix → its A (rank, inputs) and B (outputs, rank)."""
        linears = (module for module in self.modules() if isinstance(module, Linear) and module.lora)
        return {name: pair for linear in linears for name, pair in linear.adapter().items()}

    def _layout(self, pack: Pack) -> Layout:
        width = self.shape.heads.width
        frequencies = self.shape.rope_base ** -(torch.arange(0, width, 2).float() / width)
        angles = torch.tensor(pack.positions + [0] * _padding(pack)).float()[:, None, None] * frequencies
        return Layout(chunks(pack.spans), angles.cos(), angles.sin())
