"""The one object that the worker's endpoints share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbllama.worker.identity import Identity
from nbllama.worker.lifecycle import Lifecycle
from nbllama.worker.policy import Policy

if TYPE_CHECKING:
    from nbllama.answer.service import Service


@dataclass(frozen=True)
class Worker:
    """What the endpoints work with. `secret` must come in each request's `nbllama-secret`; None on a socket."""

    service: Service
    lifecycle: Lifecycle
    identity: Identity
    secret: str | None = field(default=None, repr=False)
    policy: Policy = field(default_factory=Policy)
