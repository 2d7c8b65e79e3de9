"""The elementwise parts of the network, forward and backward, each one pass over memory.

With bf16 on AMX the matrix products of a step take a quarter of its time in fp32, so what lies between them decides:
each function here is compiled into one loop (with sizes left open), and each keeps for the backward pass only what it
cannot recompute. Every reduction is in fp32.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.fx.experimental._config as shape_config
from torch import Tensor
from torch.nn import functional

# Two sizes that happen to be equal in the first call may differ in the next: without this, each such case is compiled
# anew, for 2 seconds each, until torch gives up and runs the function uncompiled.
shape_config.use_duck_shape = False

COMPILE = os.environ.get("NBLLAMA_COMPILE", "1") != "0"
"""0: no C++ compiler is needed, at about half the speed. Read at import."""

F = TypeVar("F", bound=Callable[..., Any])


def fused(function: F) -> F:
    """The function as one compiled loop for tensors of any size, which are seen without their gradients."""
    compiled = torch.compile(function, dynamic=True) if COMPILE else function

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return compiled(*(arg.detach() if isinstance(arg, Tensor) else arg for arg in args))

    return call  # type: ignore[return-value]


@fused
def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    wide = x.float()
    inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide * inverse * weight).to(x.dtype), inverse


@fused
def _norm_backward(x: Tensor, inverse: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    normed = x.float() * inverse
    weighted = grad.float() * weight
    return ((weighted - normed * (weighted * normed).mean(-1, keepdim=True)) * inverse).to(grad.dtype)


class RmsNorm(torch.autograd.Function):
    """`x` (rows, width) scaled to a root mean square of 1, times `weight` (width), which gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _norm(x, weight, eps)
        ctx.save_for_backward(x, inverse, weight)
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _norm_backward(*ctx.saved_tensors, grads[0]), None, None


@fused
def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.float().chunk(2, -1)
    return (functional.silu(gate) * up).to(gate_up.dtype)


@fused
def _swiglu_backward(gate_up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = gate_up.float().chunk(2, -1)
    wide, sigmoid = grad.float(), torch.sigmoid(gate)
    by_gate = wide * up * sigmoid * (1 + gate * (1 - sigmoid))
    return by_gate.to(grad.dtype), (wide * gate * sigmoid).to(grad.dtype)


class SwiGlu(torch.autograd.Function):
    """silu(gate)·up, of `gate_up` (rows, 2 x width)."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _swiglu(gate_up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Joined outside: compiled together with the rest, the halves are computed one number at a time, 80 ms.
        return torch.cat(_swiglu_backward(*ctx.saved_tensors, grads[0]), -1)


@fused
def rope(x: Tensor, cos: Tensor, sin: Tensor, scale: float) -> Tensor:
    """Pairs of neighbours turned by their row's angle, times `scale`; with -sin it is its own gradient.

    x (rows, heads, width), cos and sin (rows, 1, width / 2).
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    return (turned * scale).to(x.dtype)


@fused
def softmax(scores: Tensor, keys: Tensor, last: Tensor) -> Tensor:
    """Over the keys of scores (groups, queries, heads, keys): those whose number is at most the query's `last`.

    `keys` (keys) and `last` (queries) are fp32: comparing those is faster here than reading a mask of all pairs.
    """
    seen = keys[None, None, None, :] <= last[None, :, None, None]
    return torch.softmax(torch.where(seen, scores.float(), float("-inf")), -1).to(scores.dtype)


@fused
def softmax_backward(weights: Tensor, grad: Tensor) -> Tensor:
    wide, weighted = weights.float(), grad.float()
    return (wide * (weighted - (wide * weighted).sum(-1, keepdim=True))).to(grad.dtype)


@fused
def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    log_total = torch.logsumexp(wide, -1, keepdim=True)
    at_target = wide.gather(-1, targets[:, None])
    return (log_total - at_target).sum(), (wide - log_total).exp().to(logits.dtype)


class TiedCrossEntropy(torch.autograd.Function):
    """The sum of -log p(target) under logits = hidden @ embeddings.T, for frozen embeddings.

    hidden (rows, width), embeddings (vocabulary, width), targets (rows). The gradient is computed at once, block by
    block: the logits of 700 rows would be 140 MB in fp32, and are never kept.
    """

    BLOCK = 128

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embeddings: Tensor, targets: Tensor) -> Tensor:
        grad, total = torch.empty_like(hidden), hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), TiedCrossEntropy.BLOCK):
            rows = slice(start, start + TiedCrossEntropy.BLOCK)
            loss, by_logits = _cross_entropy(hidden[rows] @ embeddings.t(), targets[rows])
            by_logits[torch.arange(len(by_logits)), targets[rows]] -= 1
            grad[rows] = by_logits @ embeddings
            total += loss
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None
