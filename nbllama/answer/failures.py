"""The one border where every other error of ours becomes what a client is told."""

from __future__ import annotations

import logging
import traceback

from nbllama.answer.model_sources import ModelError
from nbllama.chat.errors import ChatError, SchemaRefused, TemplateFailed, TemplateRefused, UnsupportedContent
from nbllama.engine.errors import (
    DecodeFailed,
    EngineError,
    EngineStopped,
    LoadFailed,
    NoCells,
    PromptTooLong,
    QueueFull,
)
from nbllama.wire.errors import ApiError, InvalidRequest, Overloaded, ServerFault

log = logging.getLogger(__name__)


def to_api_error(error: BaseException) -> ApiError:
    """The ApiError for any exception. What is not ours is a bug: logged with its traceback, told in one sentence."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        return Overloaded(f"Overloaded: {error}", retry_after=error.retry_after)
    if isinstance(error, PromptTooLong | TemplateRefused | TemplateFailed | UnsupportedContent | SchemaRefused):
        return InvalidRequest(str(error))
    if isinstance(error, EngineStopped):
        return Overloaded(str(error), retry_after=1.0)
    if isinstance(error, LoadFailed | ModelError | ChatError):
        # It will fail again the next time: a client must not try ten times.
        return ServerFault(str(error), should_retry=False)
    if isinstance(error, NoCells | DecodeFailed | EngineError):
        return ServerFault(str(error))
    # Without its message, which may quote a prompt: logs hold none.
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("a bug ended a request: %s\n%s", type(error).__name__, place)
    return ServerFault(f"internal error: {type(error).__name__}")
