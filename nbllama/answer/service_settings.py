"""What a service is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """`model` is a reference, `ctx` in tokens (None: the model's own, at most 8,192), `trace_bytes` in bytes.

    `signature_key` is the file of the key that signs thinking (None: one for this service's lifetime). `aliases` are
    names, or patterns with `*`, of models that requests may ask for → a reference. `lenient` takes what only the real
    API refuses.
    `formats` are descriptions in place of derived ones, by model id, as `chat.format.to_data` writes them.

    `trace_count` 0 keeps no traces. `probabilities`: of so many alternatives of each token they tell the probability
    where a request does not say.
    `cache_bytes` bounds a model's prefixes outside its own cells (None: by the machine's memory).
    """

    model: str = "demo"
    ctx: int | None = None
    threads: int | None = None
    cache_bytes: int | None = None
    max_waiting: int = 256
    trace_count: int = 100
    trace_bytes: int = 64 << 20
    probabilities: int = 0
    trial_memory: Path | None = None
    signature_key: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    lenient: bool = False
    formats: Mapping[str, Any] | None = None
