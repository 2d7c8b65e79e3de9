"""What Claude Code's `/context` counts, all at once: placeholder text in its sizes."""

from __future__ import annotations

from typing import Any

N_COUNTS = 24
N_TOOLS = 25
SYSTEM_TOKENS = 12_000
ASK = {"role": "user", "content": "What is left of the context?"}


def tool(n: int) -> dict[str, Any]:
    """A tool of about 300 tokens."""
    properties = {f"field_{i}": {"type": "string", "description": f"placeholder {i} " * 4} for i in range(8)}
    schema = {"type": "object", "properties": properties, "required": ["field_0"], "additionalProperties": False}
    return {"name": f"Tool{n}", "description": f"tool {n} " + "does what its text says " * 12, "input_schema": schema}


def system() -> list[dict[str, Any]]:
    """About SYSTEM_TOKENS where a word is a token, in two blocks with breakpoints, behind the line about the client."""
    words = "placeholder " * (SYSTEM_TOKENS // 4)
    cached = {"cache_control": {"type": "ephemeral"}}
    line = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=cli;"}
    return [line, {"type": "text", "text": words, **cached}, {"type": "text", "text": words, **cached}]


def bodies() -> list[dict[str, Any]]:
    """The whole prompt, its system prompt alone, its messages alone, and each of its tools alone."""
    tools = [tool(n) for n in range(N_TOOLS)]
    whole = {"system": system(), "tools": tools, "messages": [ASK]}
    alone = [{"system": system(), "tools": [], "messages": [ASK]}, {"tools": [], "messages": [ASK]}]
    each = [{"tools": [one], "messages": [ASK]} for one in tools[: N_COUNTS - 3]]
    return [{"model": "claude-any", **body} for body in (whole, *alone, *each)]
