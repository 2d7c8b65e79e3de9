"""What a request wishes of sampling and thinking, with what holds where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from nbllama.engine.sampling import SamplingSettings
from nbllama.wire.requests import MessagesRequest


def sampling_of(request: MessagesRequest, defaults: Mapping[str, Any]) -> SamplingSettings:
    """What the request asks for, else what suits the model, else the API's default."""
    chosen: dict[str, Any] = {"temperature": 1.0, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "seed": None, **defaults}
    for name in chosen:
        value = getattr(request, name, None)
        if value is not None:
            chosen[name] = value
    return SamplingSettings(**chosen)


def alternatives_of(request: MessagesRequest, default: int) -> int:
    """Of how many alternatives of each token the trace tells the probability; 0: none is computed."""
    return default if request.probabilities is None else request.probabilities


def thinking_of(request: MessagesRequest) -> Literal["shown", "omitted", "hidden"]:
    """What of the thinking the client is shown."""
    if request.thinking is None or not request.thinking_enabled:
        return "hidden"
    return "omitted" if request.thinking.display == "omitted" else "shown"


# How much of `max_tokens` thinking may take where the request names no budget: an answer has to fit behind it.
_SHARES = {"low": 0.1, "medium": 0.25, "high": 0.5, "xhigh": 0.7, "max": 0.8}
_DEFAULT_EFFORT = "high"


def thinking_budget(request: MessagesRequest) -> int:
    """How many tokens of thinking an answer may have; none where thinking is off."""
    if request.thinking is None or not request.thinking_enabled:
        return 0
    if request.thinking.type == "enabled":
        return request.thinking.budget_tokens
    effort = (request.output_config.effort if request.output_config else None) or _DEFAULT_EFFORT
    return max(1, int(request.max_tokens * _SHARES[effort]))
