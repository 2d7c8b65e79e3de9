"""Which parts of a request change nothing here: they are named to the client, never dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# `metadata` changes nothing at the API either.
_ACTED_UPON = {
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "max_tokens",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "nbllama",
    "metadata",
}
_OWN = {"seed", "min_p"}
# The names end up in a header: a body may hold millions of them, and each as long as it likes.
_MAX_NAMES = 32
_MAX_CHARS = 64


def ignored_names(data: dict[str, Any]) -> list[str]:
    """The names, top-level fields first, out of a body that was checked."""
    names = [*_fields(data), *_parts(data)]
    return [name[:_MAX_CHARS] for name in names[:_MAX_NAMES]]


def _fields(data: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in data if name not in _ACTED_UPON)


def _parts(data: dict[str, Any]) -> Iterator[str]:
    if data.get("tool_choice", {}).get("type") in ("any", "tool"):
        # Nothing forces the model yet.
        yield "tool_choice"
    if "budget_tokens" in data.get("thinking", {}):
        yield "thinking.budget_tokens"
    # Counting does not check it.
    own = data.get("nbllama")
    for name in own if isinstance(own, dict) else ():
        if name not in _OWN:
            yield f"nbllama.{name}"
    for index, tool in enumerate(data.get("tools", [])):
        if tool.get("type", "custom") not in (None, "custom"):
            yield f"tools.{index} ({tool['type']})"
        elif tool.get("defer_loading"):
            yield f"tools.{index} (defer_loading)"
