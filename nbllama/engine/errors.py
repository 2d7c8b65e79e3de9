"""The engine's own errors. It has never heard of HTTP; `answer/failures.py` translates."""

from __future__ import annotations

from nbllama.errors import NbllamaError


class EngineError(NbllamaError):
    """Something the engine refuses or fails at."""


class QueueFull(EngineError):
    """As many jobs wait as may wait. `retry_after` is an estimate in seconds."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"the queue is full: {waiting} requests are waiting")
        self.waiting = waiting
        self.retry_after = retry_after


class PromptTooLong(EngineError):
    """The prompt alone does not fit the context. Found before any work."""

    def __init__(self, n_tokens: int, maximum: int) -> None:
        super().__init__(f"prompt is too long: {n_tokens} tokens > {maximum} maximum")
        self.n_tokens = n_tokens
        self.maximum = maximum


class NoCells(EngineError):
    """The key/value cache has no cell left for the batch. The batch was rolled back; nothing is lost."""


class DecodeFailed(EngineError):
    """llama.cpp could not decode a batch. `code` is what it returned."""

    def __init__(self, code: int) -> None:
        super().__init__(f"llama.cpp could not decode a batch (code {code})")
        self.code = code


class DecodeAborted(EngineError):
    """The decode was interrupted. How much of its batch lies in the cells is unknown."""

    def __init__(self) -> None:
        super().__init__("the decode was interrupted")


class LoadFailed(EngineError):
    """The file is missing, broken, or does not fit into memory."""


class EngineStopped(EngineError):
    """The engine is shutting down; the job was not finished."""
