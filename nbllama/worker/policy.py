"""What an admin's locked settings mean for the requests of a running worker: a lock at its start alone is none."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from nbllama.answer.model_sources import ModelError, resolve
from nbllama.wire.errors import PermissionDenied
from nbllama.worker.settings import Settings


@dataclass(frozen=True)
class Policy:
    """The worker's settings, asked about what a request wants."""

    settings: Settings = field(default_factory=Settings)

    @property
    def model_is_locked(self) -> bool:
        """Whether doors have no default model of their own."""
        return "model" in self.settings.locked

    def check_load(self, model: str, ctx: int | None) -> None:
        """Raises PermissionDenied if loading `model` with `ctx` tokens would get around a lock."""
        settings = self.settings
        if self.model_is_locked and model not in _names(settings.model):
            raise PermissionDenied(f"model: the administrator of this machine allows {settings.model} only")
        if "ctx" in settings.locked and ctx is not None and ctx != settings.ctx:
            allowed = "the model's own context" if settings.ctx is None else f"a context of {settings.ctx} tokens"
            raise PermissionDenied(f"ctx: the administrator of this machine allows {allowed} only, not {ctx}")


def _names(ref: str) -> set[str]:
    """The reference, and the id under which its model is listed."""
    with contextlib.suppress(ModelError):
        return {ref, resolve(ref).id}
    return {ref}
