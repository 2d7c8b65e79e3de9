"""Which requests are the same, and what differs between two. Pure.

A normalised request holds what makes the answer. It has none of what differs by itself from one run to the next:
the ids of tool calls (numbered as they come), `metadata`, `cache_control`, signatures of thinking, the billing line of
Claude Code, `stream`, the order of keys, the several spellings of one content; none of what masking covers; and not the
`model`, since a cassette is played for whoever asks.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbllama.cassettes.masked import masked_request
from nbllama.views.masking import COVER
from nbllama.wire.requests import without_billing

_BESIDE = ("stream", "metadata", "cache_control", "model")
_LEAST = 80
"""Characters of a value that are shown."""
_COMPARED = 4000
_COVERED = re.compile(f"{COVER}+")
_FIRST = ("system", "tools", "messages")


def normalised(request: Mapping[str, Any]) -> dict[str, Any]:
    """What two requests must have in common. Normalising again changes nothing."""
    found = _present(masked_request(request), _BESIDE)
    ids: dict[str, str] = {}
    if "system" in found:
        found["system"] = [_block(block, ids) for block in _blocks(_without_billing(found["system"]))]
        if not found["system"]:
            del found["system"]
    if isinstance(found.get("messages"), list):
        found["messages"] = [_message(message, ids) for message in found["messages"]]
    if isinstance(found.get("tools"), list):
        found["tools"] = [_tool(tool) for tool in found["tools"]]
    plain: dict[str, Any] = _plain(found)
    return plain


def key(request: Mapping[str, Any]) -> str:
    """A text that the same requests have in common."""
    return text_of(normalised(request))


def text_of(value: Any) -> str:
    """JSON that does not depend on the order of keys."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Difference:
    """`field` as in "messages.0.content.0.text"; None for a side that does not have it."""

    field: str
    recorded: Any
    requested: Any

    def shown(self) -> tuple[str, str]:
        """Both values, shortened around the first character that differs."""
        recorded, requested = _value(self.recorded), _value(self.requested)
        at = len(_common(recorded, requested))
        return _around(recorded, at), _around(requested, at)


def differences(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> list[Difference]:
    """Between two normalised requests, in the order system, tools, messages, the rest."""
    ours, theirs = dict(_leaves(recorded)), dict(_leaves(requested))
    names = sorted({*ours, *theirs}, key=_place)
    pairs = ((name, ours.get(name), theirs.get(name)) for name in names)
    found = [Difference(_field(name), one, other) for name, one, other in pairs if text_of(one) != text_of(other)]
    return found


def distance(found: Sequence[Difference]) -> tuple[int, float]:
    """How far apart two requests are, to be compared: how much differs, then how much the first difference is."""
    if not found:
        return 0, 0.0
    one, other = (_value(value)[:_COMPARED] for value in (found[0].recorded, found[0].requested))
    return len(found), -difflib.SequenceMatcher(None, one, other, autojunk=False).quick_ratio()


def _without_billing(system: Any) -> Any:
    while (rest := without_billing(system)) != system:
        system = rest
    return system


def _message(message: Any, ids: dict[str, str]) -> Any:
    if not isinstance(message, dict):
        return message
    found = _present(message)
    if "content" in found:
        found["content"] = [_block(block, ids) for block in _blocks(found["content"])]
    return found


def _blocks(content: Any) -> list[Any]:
    """A text stands for a block of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else [content]


def _block(block: Any, ids: dict[str, str]) -> Any:
    if not isinstance(block, dict):
        return block
    found = _present(block, ("cache_control", "signature"))
    kind = str(found.get("type"))
    # Numbered as they come: what a model's call is called is drawn anew each time.
    for name in ("id", "tool_use_id"):
        if isinstance(found.get(name), str) and (name == "tool_use_id" or kind.endswith("tool_use")):
            found[name] = ids.setdefault(found[name], f"call {len(ids) + 1}")
    if kind.endswith("tool_result") and "content" in found and isinstance(found["content"], str | list):
        found["content"] = [_block(inner, ids) for inner in _blocks(found["content"])]
    return found


def _tool(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    found = _present(tool, ("cache_control",))
    if found.get("type") == "custom":
        del found["type"]
    return found


def _present(value: Mapping[str, Any], but: Sequence[str] = ()) -> dict[str, Any]:
    """Without what is null, which means the same as not there."""
    return {name: part for name, part in value.items() if part is not None and name not in but}


def _plain(value: Any) -> Any:
    """Covered texts of any length are the same, as are 1 and 1.0."""
    if isinstance(value, str):
        return _COVERED.sub(COVER, value)
    if isinstance(value, dict):
        return {_COVERED.sub(COVER, str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    parts: list[tuple[str | int, Any]] = []
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    if not parts:
        return [(path, value)]
    return [leaf for name, part in parts for leaf in _leaves(part, (*path, name))]


def _place(path: tuple[str | int, ...]) -> tuple[int, list[tuple[int, int, str]]]:
    first = _FIRST.index(str(path[0])) if path and path[0] in _FIRST else len(_FIRST)
    return first, [(0, part, "") if isinstance(part, int) else (1, 0, part) for part in path]


def _field(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "request"


def _value(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _common(one: str, other: str) -> str:
    length = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one[:length] if length is not None else min(one, other, key=len)


def _around(text: str, at: int) -> str:
    if len(text) <= _LEAST:
        return text
    start = max(0, min(at - _LEAST // 3, len(text) - _LEAST))
    end = start + _LEAST
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
