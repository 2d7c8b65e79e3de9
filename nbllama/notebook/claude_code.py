"""What Claude Code needs to be told to work with a local model, in the forms in which it can be told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

FULL_PROMPT_CHARACTERS = 48_800
"""Characters of the first request of Claude Code 2.1.330, its tools included (measured; 11,800 tokens of Qwen2)."""

BARE_PROMPT_CHARACTERS = 4_200
"""The same with `--bare`: three tools (1,009 tokens of Qwen2)."""

ROOM_FOR_WORK = 4_096
"""Tokens that should be left beside the prompt for what is read and answered, or else `--bare` is the better start."""

LEAST_ROOM = 512
"""Tokens without which not even one answer fits."""

FORMS = ("sh", "powershell", "settings")

MODEL_VARIABLES = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_MODEL_OPTION",
    "CLAUDE_CODE_SUBAGENT_MODEL",
)

FOREIGN = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "ANTHROPIC_CUSTOM_HEADERS")
"""Variables that would send Claude Code, or another key, elsewhere."""


def environment(url: str, key: str, model: str, n_ctx: int) -> dict[str, str]:
    """The variables for a model with `n_ctx` tokens at `url`, which has no `/v1`."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        **dict.fromkeys(MODEL_VARIABLES, model),
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(n_ctx),
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(n_ctx),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(max(256, min(8192, n_ctx // 4))),
        # A model here answers one thing at a time at best: titles and probes would go before the user's question.
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # The block differs by entry point, and costs tokens.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    }


def written(variables: Mapping[str, str], form: str) -> str:
    """The variables as lines for a shell ("sh", "powershell") or as a settings file ("settings")."""
    if form == "settings":
        return json.dumps({"env": dict(variables)}, indent=2)
    if form == "powershell":
        doubled = {name: value.replace("'", "''") for name, value in variables.items()}
        return "\n".join(f"$env:{name} = '{value}'" for name, value in doubled.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def wants_bare(n_ctx: int, full_prompt: int) -> bool:
    """Whether Claude Code's own prompt, in this model's tokens, leaves too little of the context."""
    return n_ctx < full_prompt + ROOM_FOR_WORK
