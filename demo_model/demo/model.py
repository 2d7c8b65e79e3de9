"""The demo model in torch: a llama of 5.5 million parameters, trained from scratch.

Its norms have no weights of their own, since the matrix behind each can take them in; llama.cpp is given ones. All
products are in bf16, the parameters and what the optimizer keeps are in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from demo_model.packing import Branch, Pack, Sample
from demo_model.packing import pack as pack_samples
from demo_model.smollm2.attention import Attention, Heads, Layout, chunks
from demo_model.smollm2.kernels import RmsNorm, SwiGlu, fused

ROW_STEP = 128
"""Rows are filled up to a multiple of this, so that few shapes of products come up."""
EPS = 1e-5


@dataclass(frozen=True)
class Size:
    """The network's sizes. `rope_base`: at 100,000 the slowest pair turns by 0.1 in 8,192 positions."""

    layers: int = 7
    width: int = 256
    heads: int = 4
    key_heads: int = 2
    hidden: int = 672
    vocabulary: int = 2048
    rope_base: float = 100_000.0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Linear(nn.Module):
    """Matrices that read the same input, as one product: (rows, inputs) to (rows, outputs)."""

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * std)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x.dtype).t()


class Layer(nn.Module):
    """A transformer block."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = Heads(size.heads, size.key_heads, size.head_width)
        std = size.width**-0.5
        back = std / (2 * size.layers) ** 0.5  # what a layer adds is small at first
        self.qkv = Linear(size.width, (size.heads + 2 * size.key_heads) * size.head_width, std)
        self.out = Linear(size.width, size.width, back)
        self.gate_up, self.down = Linear(size.width, 2 * size.hidden, std), Linear(size.hidden, size.width, back)
        self.register_buffer("ones", torch.ones(size.width), persistent=False)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        qkv = self.qkv(RmsNorm.apply(x, self.ones, EPS))
        keep = torch.is_grad_enabled()
        x = x + self.out(Attention.apply(qkv, layout.cos, layout.sin, layout.parts, self.heads, keep))
        summed: Tensor = x + self.down(SwiGlu.apply(self.gate_up(RmsNorm.apply(x, self.ones, EPS))))
        return summed


class DemoModel(nn.Module):
    """The model. `prompt_weight`: how much a token that is not learnt counts in training, where it teaches language."""

    def __init__(self, size: Size = Size(), dtype: torch.dtype = torch.bfloat16, prompt_weight: float = 0.1) -> None:
        super().__init__()
        self.size, self.dtype, self.prompt_weight = size, dtype, prompt_weight
        self.embeddings = nn.Parameter(torch.randn(size.vocabulary, size.width) * 0.02)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.gain = nn.Parameter(torch.ones(size.width))
        self.register_buffer("ones", torch.ones(size.width), persistent=False)

    def matrices(self) -> Iterator[nn.Parameter]:
        """What is multiplied with rows inside the layers."""
        return (parameter for name, parameter in self.named_parameters() if name.startswith("layers."))

    def hidden(self, pack: Pack) -> Tensor:
        """What the last layer says at every row: (rows and padding, width), normalised."""
        padding = -len(pack.ids) % ROW_STEP
        layout = self._layout(pack, padding)
        x = self.embeddings[torch.tensor(pack.ids + [0] * padding)].to(self.dtype)
        for layer in self.layers:
            x = layer(x, layout)
        normed: Tensor = RmsNorm.apply(x, self.ones, EPS)
        return normed * self.gain.to(self.dtype)

    def loss(self, pack: Pack) -> Tensor:
        """The mean of -log p over the tokens that are learnt; in training also over the others, by their weight."""
        sources, targets, weights = pack.sources, pack.targets, [1 / len(pack.targets)] * len(pack.targets)
        if torch.is_grad_enabled() and self.prompt_weight:
            others = list(other_targets(pack))
            sources, targets = sources + [row for row, _ in others], targets + [token for _, token in others]
            weights += [self.prompt_weight / max(1, len(others))] * len(others)
        chosen = self.hidden(pack)[torch.tensor(sources)]
        loss: Tensor = TiedHead.apply(
            chosen, self.embeddings.to(self.dtype), torch.tensor(targets), torch.tensor(weights)
        )
        return loss

    @torch.no_grad()
    def logits(self, ids: list[int]) -> Tensor:
        """(tokens, vocabulary) in fp32, for one text."""
        whole = pack_samples([Sample([], [Branch(ids, [False] * len(ids))])])
        return (self.hidden(whole)[: len(ids)] @ self.embeddings.to(self.dtype).t()).float()

    def _layout(self, pack: Pack, padding: int) -> Layout:
        width = self.size.head_width
        frequencies = self.size.rope_base ** -(torch.arange(0, width, 2).float() / width)
        angles = torch.tensor(pack.positions + [0] * padding).float()[:, None, None] * frequencies
        return Layout(chunks(pack.spans), angles.cos(), angles.sin())


def other_targets(pack: Pack) -> Iterator[tuple[int, int]]:
    """Rows inside a span and the tokens that follow them there, unless those are learnt anyway."""
    learnt = set(pack.sources)
    for span in pack.spans:
        yield from ((row, pack.ids[row + 1]) for row in range(span.start, span.end - 1) if row not in learnt)


@fused
def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    log_total = torch.logsumexp(wide, -1, keepdim=True)
    at_target = wide.gather(-1, targets[:, None])
    loss = ((log_total - at_target)[:, 0] * weights).sum()
    # One minus a likelihood near 1, before it is rounded to bf16.
    hit = torch.arange(logits.shape[1])[None, :] == targets[:, None]
    return loss, (((wide - log_total).exp() - hit.float()) * weights[:, None]).to(logits.dtype)


class TiedHead(torch.autograd.Function):
    """The sum of weights·-log p(target) under logits = hidden @ embeddings.T.

    hidden (rows, width), embeddings (vocabulary, width), targets and weights (rows). Both gradients are computed at
    once, block by block; the logits of all rows are never kept.
    """

    BLOCK = 512

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embeddings: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        by_hidden = torch.empty_like(hidden)
        by_embeddings = torch.zeros_like(embeddings, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), TiedHead.BLOCK):
            rows = slice(start, start + TiedHead.BLOCK)
            loss, by_logits = _cross_entropy(hidden[rows] @ embeddings.t(), targets[rows], weights[rows])
            by_hidden[rows] = by_logits @ embeddings
            by_embeddings += by_logits.t() @ hidden[rows]
            total += loss
        ctx.save_for_backward(by_hidden, by_embeddings)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_hidden, by_embeddings = ctx.saved_tensors
        scale = grads[0]
        return by_hidden * scale.to(by_hidden.dtype), (by_embeddings * scale).to(by_hidden.dtype), None, None
