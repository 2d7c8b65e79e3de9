"""Which parts of a request change nothing here: they are named to the client, never dropped in silence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from nbllama.wire.client_tools import is_client_type

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
    "cache_control",
    "output_format",
    # A header in other clouds.
    "anthropic_version",
}
_OWN = {"seed", "min_p", "probabilities"}
_THINKING = {"type", "display", "budget_tokens"}
# Betas that ask for nothing, for what is done here, or for a field that is refused by itself.
_BETAS = (
    "advanced-tool-use-",
    "claude-code-",
    "compact-2026-09-04",
    "computer-use-",
    "extended-cache-ttl-",
    "fine-grained-tool-streaming-",
    "inline-tools-",
    "interleaved-thinking-",
    "message-threads-",
    "mid-conversation-system-",
    "mid-conversation-tool-changes-",
    "oauth-",
    "output-128k-",
    "pdfs-",
    "prompt-caching-",
    "structured-outputs-",
    "token-counting-",
    "token-efficient-tools-",
)
# The names end up in a header: a body may hold millions of them, and each as long as it likes.
_MAX_NAMES = 32
_MAX_CHARS = 64


def ignored_names(data: dict[str, Any], offered: Collection[str] = ()) -> list[str]:
    """The names, top-level fields first, out of a body that was checked. `offered`: tools that the model is shown."""
    names = [*_fields(data), *_parts(data), *_tools(data, set(offered)), *_blocks(data)]
    return [name[:_MAX_CHARS] for name in names[:_MAX_NAMES]]


def ignored_betas(headers: Iterable[str]) -> list[str]:
    """The betas of all `anthropic-beta` headers that change nothing here, in the same form."""
    betas = (beta.strip() for header in headers for beta in header.split(","))
    names = [f"anthropic-beta ({beta[:_MAX_CHARS]})" for beta in betas if beta and not beta.startswith(_BETAS)]
    return names[:_MAX_NAMES]


def _fields(data: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in data if name not in _ACTED_UPON and name != "output_config")
    for name, value in data.get("output_config", {}).items():
        if name not in ("format", "effort") and value is not None:
            yield f"output_config.{name}"


def _parts(data: dict[str, Any]) -> Iterator[str]:
    yield from (f"thinking.{name}" for name in data.get("thinking", {}) if name not in _THINKING)
    # Counting does not check it.
    own = data.get("nbllama")
    for name in own if isinstance(own, dict) else ():
        if name not in _OWN:
            yield f"nbllama.{name}"


def _tools(data: dict[str, Any], offered: set[str]) -> Iterator[str]:
    for index, tool in enumerate(data.get("tools", [])):
        type = tool.get("type") or "custom"
        if type != "custom" and not is_client_type(type):
            yield f"tools.{index} ({type})"
        elif tool.get("defer_loading") and tool.get("name") not in offered:
            yield f"tools.{index} (defer_loading)"
        callers = tool.get("allowed_callers")
        if isinstance(callers, list) and callers and "direct" not in callers:
            yield f"tools.{index} (allowed_callers)"


def _blocks(data: dict[str, Any]) -> Iterator[str]:
    """Blocks of other servers that no model is shown."""
    for index, message in enumerate(data.get("messages", [])):
        if message.get("output_config") is not None:
            yield f"messages.{index}.output_config"
        content = message.get("content")
        for position, block in enumerate(content if isinstance(content, list) else []):
            type = block.get("type")
            if type in ("redacted_thinking", "fallback", "mcp_tool_listing"):
                yield f"messages.{index}.content.{position} ({type})"
            elif type in ("document", "search_result") and (block.get("citations") or {}).get("enabled"):
                yield f"messages.{index}.content.{position} (citations)"
