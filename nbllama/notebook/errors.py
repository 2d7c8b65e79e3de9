"""Errors a notebook user sees: one line each, but raised, so that "Run all" stops.

NbllamaError
└── ShortError       shown without a traceback
    ├── AskError     a %%llama cell or a %llama command failed
    └── TraceError   there is no such trace
"""

from __future__ import annotations

from nbllama.errors import NbllamaError
from nbllama.wire.errors import ApiError
from nbllama.worker.errors import WorkerDied


class ShortError(NbllamaError):
    """Its text says everything: where in nbllama it was raised tells a user nothing."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class AskError(ShortError):
    """The model did not answer, or not to the end. `error` is what the client side raised."""

    def __init__(self, error: NbllamaError) -> None:
        kind = error.type if isinstance(error, ApiError) else type(error).__name__
        fix = _fix_of(error)
        super().__init__(f"{kind}: {error}" + (f"\n→ {fix}" if fix else ""))
        self.error = error


class TraceError(ShortError):
    """No such trace, or its server cannot be asked."""


_FIXES = {
    "authentication_error": "set NBLLAMA_API_KEY to the key of the server at NBLLAMA_BASE_URL",
    "overloaded_error": "run the cell again in a moment",
    "rate_limit_error": "run the cell again in a moment",
}


def _fix_of(error: NbllamaError) -> str | None:
    if isinstance(error, WorkerDied):
        return "run the cell again: that starts a new worker (`nbllama logs` in a terminal shows how this one ended)"
    if not isinstance(error, ApiError):
        return None
    if "prompt is too long" in error.message:
        return "shorten it, or give the model more context: `%llama stop`, set NBLLAMA_CTX, restart the kernel"
    return _FIXES.get(error.type)
