"""Errors a notebook user sees: what is wrong and what to do, but raised, so that "Run all" stops.

NbllamaError
└── ShortError       shown without its traceback; `%tb` shows that
    ├── AskError     a model did not answer to the end, or a %llama command failed
    ├── ToolsError   tools, or options of a run with tools, that cannot be used; also IPython's UsageError
    └── TraceError   a trace is not to be had, or what is asked of it: a file, a view, a fork
"""

from __future__ import annotations

from typing import TypeVar

from IPython.core.error import UsageError

from nbllama.errors import NbllamaError
from nbllama.notebook import short_traceback
from nbllama.wire.errors import ApiError
from nbllama.worker.errors import SettingsError, WorkerDied, WorkerError

E = TypeVar("E", bound=BaseException)


class ShortError(NbllamaError):
    """Its text says everything: where in nbllama it was raised tells a user nothing."""

    def _render_traceback_(self) -> list[str]:
        return short_traceback.render(self, str(self))


class AskError(ShortError):
    """The model did not answer, or not to the end. `error` is what the client side raised.

    `fix` is what to do about it where that is not the same as always."""

    def __init__(self, error: NbllamaError, fix: str | None = None) -> None:
        kind = error.type if isinstance(error, ApiError) else type(error).__name__
        super().__init__(with_fix(f"{kind}: {error}", fix or fix_of(error)))
        self.error = error


class ToolsError(ShortError, UsageError):
    """What was given for tools cannot be used; the text names it. Nothing was run by then that is not shown."""


class TraceError(ShortError):
    """A trace is not to be had, or what is asked of it or of a text; its text names what is missing."""


def interrupted(interrupt: E) -> E:
    """A KeyboardInterrupt or CancelledError that came while a model was asked: shown in one line."""
    return short_traceback.shortened(interrupt, lambda error: f"{type(error).__name__}: {_INTERRUPTED}")


def with_fix(text: str, fix: str | None) -> str:
    """What is wrong, and what to do below it."""
    return f"{text}\n→ {fix}" if fix else text


def fix_of(error: NbllamaError) -> str | None:
    """What a user does about it; None if the error says that itself, or nobody knows."""
    match error:
        case WorkerDied():
            return DIED
        case ApiError():
            return api_fix(error.type, error.message)
        case SettingsError():
            return "mend the setting, then run the cell again"
        case WorkerError():
            return "`%llama status` tells what runs here, `nbllama logs` in a terminal how the last worker ended"
    return None


def api_fix(kind: str, message: str) -> str | None:
    """The same for an error of the API, by its type and what it says."""
    for part, fix in _FIXES_BY_MESSAGE.items():
        if part in message:
            return fix
    return _FIXES.get(kind)


_INTERRUPTED = "the model was stopped; what it had said is in nbllama.last"
_OTHER_FILE = "`nbllama models` in a terminal lists what there is, `%llama load REF` loads another"
DIED = "run the cell again: that starts a new worker (`nbllama logs` in a terminal shows how this one ended)"
_FIXES_BY_MESSAGE = {
    "prompt is too long": (
        "shorten it, or give the model more context: `%llama stop`, set NBLLAMA_CTX, restart the kernel"
    ),
    "the worker went away": DIED,
    "has no vision": "send text only, or load a model that sees images: `%llama load REF`",
    "of memory": "load a smaller model (`%llama load REF`), or free memory: other kernels hold some",
    "is not a GGUF file": _OTHER_FILE,
    "does not exist": _OTHER_FILE,
    "cannot read ": _OTHER_FILE,
    "llama.cpp cannot load": _OTHER_FILE,
    "room for a context": "set a smaller NBLLAMA_CTX: `%llama stop`, restart the kernel",
}
_FIXES = {
    "authentication_error": "set NBLLAMA_API_KEY to the key of the server at NBLLAMA_BASE_URL",
    "overloaded_error": "run the cell again in a moment",
    "rate_limit_error": "run the cell again in a moment",
}
