"""Attention over a pack: every branch sees its prefix and itself, and no work is done for what it does not see.

Queries go in chunks, so that a chunk meets only the keys up to its own end. Plain products by head are faster here
than torch's fused attention, whose backward pass in bf16 does not use AMX.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from demo_model.packing import Span
from demo_model.smollm2 import kernels

CHUNK = 128
"""Queries at a time."""
QUERY_STEP, KEY_STEP = 16, 32
"""Sizes are rounded up to these: oneDNN builds a kernel for each new shape, 0.6 to 1.5 ms each; a known one is free."""
# So all of them are to be remembered. oneDNN looks here when it computes for the first time; 1,024 without it.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


@dataclass(frozen=True)
class Chunk:
    """Queries of rows [start, end); their keys: [*prefix), then [own, end)."""

    start: int
    end: int
    prefix: tuple[int, int]
    own: int

    @property
    def before(self) -> int:
        """Keys that the first query sees besides its own."""
        return self.prefix[1] - self.prefix[0] + self.start - self.own

    @property
    def keys(self) -> int:
        return self.before + self.end - self.start


def chunks(spans: Sequence[Span]) -> list[Chunk]:
    """The spans, cut into chunks of queries."""
    return [
        Chunk(start, min(start + CHUNK, span.end), span.prefix, span.start)
        for span in spans
        for start in range(span.start, span.end, CHUNK)
    ]


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _queries(rows: Tensor, chunk: Chunk) -> Tensor:
    """The chunk's rows of (groups, all rows, heads, width), as (groups, queries x heads, width), zeros behind."""
    count = chunk.end - chunk.start
    rounded = _up(count, QUERY_STEP)
    if rounded == count:
        return rows[:, chunk.start : chunk.end].flatten(1, 2)
    padded = rows.new_empty(rows.shape[0], rounded, *rows.shape[2:])
    padded[:, :count] = rows[:, chunk.start : chunk.end]
    padded[:, count:] = 0
    return padded.flatten(1, 2)


def _keys(rows: Tensor, chunk: Chunk) -> Tensor:
    """The rows of (groups, all rows, width) that the chunk sees, zeros behind."""
    shared, rounded = chunk.prefix[1] - chunk.prefix[0], _up(chunk.keys, KEY_STEP)
    if rounded == chunk.keys and not shared:
        return rows[:, chunk.own : chunk.end]
    seen = rows.new_empty(rows.shape[0], rounded, rows.shape[2])
    seen[:, :shared] = rows[:, slice(*chunk.prefix)]
    seen[:, shared : chunk.keys] = rows[:, chunk.own : chunk.end]
    seen[:, chunk.keys :] = 0
    return seen


def _add_keys(total: Tensor, part: Tensor, chunk: Chunk) -> None:
    """Adds the gradients of the keys that the chunk saw to those of all rows."""
    shared = chunk.prefix[1] - chunk.prefix[0]
    total[:, slice(*chunk.prefix)] += part[:, :shared]
    total[:, chunk.own : chunk.end] += part[:, shared : chunk.keys]


@dataclass(frozen=True)
class Heads:
    """`query` heads, of which query / key share one key and value; each `width` wide."""

    query: int
    key: int
    width: int


class Attention(torch.autograd.Function):
    """(rows, (query + 2 key) x width) to (rows, query x width), for rows that lie as the chunks say.

    `cos` and `sin` are (rows, 1, width / 2), by position. Without a gradient to come nothing is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, parts: list[Chunk], heads: Heads, keep: bool
    ) -> Tensor:
        queries, keys, values = _split(qkv, cos, sin, heads)
        out = qkv.new_zeros(len(qkv), heads.key, heads.query // heads.key, heads.width)
        weights = []
        for part in parts:
            seen = _weights(queries, keys, part)
            mixed = torch.bmm(seen, _keys(values, part)).unflatten(1, (-1, out.shape[2]))
            out[part.start : part.end] = mixed[:, : part.end - part.start].transpose(0, 1)
            if keep:
                weights.append(seen)
        ctx.parts, ctx.heads = parts, heads
        ctx.save_for_backward(queries, keys, values, cos, sin, *weights)
        return out.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        queries, keys, values, cos, sin, *weights = ctx.saved_tensors
        heads: Heads = ctx.heads
        grad = grads[0].unflatten(1, (heads.key, -1, heads.width)).transpose(0, 1).contiguous()
        by_queries = torch.zeros_like(queries)
        by_keys = torch.zeros_like(keys, dtype=torch.float32)
        by_values = torch.zeros_like(values, dtype=torch.float32)
        for part, seen in zip(ctx.parts, weights, strict=True):
            out = _queries(grad, part)
            _add_keys(by_values, torch.bmm(seen.transpose(1, 2), out), part)
            scores = torch.bmm(out, _keys(values, part).transpose(1, 2))
            scores = kernels.softmax_backward(seen, scores)
            mixed = torch.bmm(scores, _keys(keys, part)).unflatten(1, (-1, queries.shape[2]))
            by_queries[:, part.start : part.end] = mixed[:, : part.end - part.start]
            _add_keys(by_keys, torch.bmm(scores.transpose(1, 2), _queries(queries, part)), part)
        return _joined(by_queries, by_keys, by_values, cos, sin, heads), None, None, None, None, None


def _weights(queries: Tensor, keys: Tensor, part: Chunk) -> Tensor:
    """How much each query takes of each key: (groups, queries x heads, keys)."""
    scores = torch.bmm(_queries(queries, part), _keys(keys, part).transpose(1, 2))
    by_query = scores.unflatten(1, (-1, queries.shape[2]))
    numbers = torch.arange(by_query.shape[3], dtype=torch.float32)
    last = torch.arange(part.before, part.before + by_query.shape[1], dtype=torch.float32)
    # What is rounded up lies behind the last key that any real query sees.
    weights: Tensor = kernels.softmax(by_query, numbers, last).flatten(1, 2)
    return weights


def _split(qkv: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (groups, rows, heads of a group, width), scaled; keys and values (groups, rows, width)."""
    rows = qkv.unflatten(1, (-1, heads.width))
    of_query, of_key, of_value = rows.split([heads.query, heads.key, heads.key], 1)
    turned = kernels.rope(of_query, cos, sin, heads.width**-0.5)
    # In this order the queries of a chunk lie next to each other, so most need no copy.
    queries = turned.unflatten(1, (heads.key, -1)).transpose(0, 1).contiguous()
    return queries, kernels.rope(of_key, cos, sin, 1.0).transpose(0, 1).contiguous(), of_value.transpose(0, 1)


def _joined(by_queries: Tensor, by_keys: Tensor, by_values: Tensor, cos: Tensor, sin: Tensor, heads: Heads) -> Tensor:
    """The gradient of `_split`."""
    dtype = by_queries.dtype
    of_query = kernels.rope(by_queries.transpose(0, 1).flatten(1, 2), cos, -sin, heads.width**-0.5)
    of_key = kernels.rope(by_keys.to(dtype).transpose(0, 1), cos, -sin, 1.0)
    return torch.cat([of_query, of_key, by_values.transpose(0, 1).to(dtype)], 1).flatten(1)
