"""Whether the model is to think. Source: anthropic-api §2.6."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nbllama.wire.content import WireModel
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.tools import ToolChoice


class _Thinking(WireModel):
    display: Literal["summarized", "omitted", "updates"] | None = None


class EnabledThinking(_Thinking):
    """`budget_tokens` bounds the thinking of an answer."""

    type: Literal["enabled"] = "enabled"
    budget_tokens: int = Field(ge=1024)


class AdaptiveThinking(_Thinking):
    type: Literal["adaptive"] = "adaptive"


class DisabledThinking(_Thinking):
    type: Literal["disabled"] = "disabled"


class BetweenToolsThinking(_Thinking):
    """Thinking is off; short notes between tools, which no local model makes."""

    type: Literal["between_tools"] = "between_tools"


Thinking = EnabledThinking | AdaptiveThinking | DisabledThinking | BetweenToolsThinking


def check_thinking(thinking: Thinking | None, max_tokens: int | None, choice: ToolChoice | None) -> None:
    """Raises InvalidRequest where thinking does not go with the rest. `max_tokens` None: none was asked for."""
    if isinstance(thinking, DisabledThinking) and thinking.display is not None:
        raise InvalidRequest("thinking.disabled.display: Extra inputs are not permitted")
    if not isinstance(thinking, EnabledThinking):
        return
    # 0 is the pre-warm, which has its own rule.
    if max_tokens and max_tokens <= thinking.budget_tokens:
        raise InvalidRequest("`max_tokens` must be greater than `thinking.budget_tokens`")
    if choice is not None and choice.type in ("any", "tool"):
        raise InvalidRequest("Thinking may not be enabled when tool_choice forces tool use.")
