"""`%llama chats`: the conversations of this kernel, shown and forgotten."""

from __future__ import annotations

import json
from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.magics.conversation import Conversation, conversations
from nbllama.notebook.phrases import bounded, counted

USAGE = "%llama chats, %llama chats show NAME, or %llama chats clear [NAME]"


def chats_text(*words: str) -> str:
    """Raises UsageError for a chat that is none, and for other words."""
    match words:
        case ():
            return "\n".join(map(_line, conversations)) or "no chats; %%llama --chat NAME begins one"
        case ("show", name):
            return _whole(conversations.named(name))
        case ("clear", *names) if len(names) <= 1:
            cleared = conversations.clear(*names)
            return f"forgotten: {', '.join(cleared)}" if cleared else "no chats"
    raise UsageError(USAGE)


def _line(chat: Conversation) -> str:
    parts = [counted(len(chat.turns), "turn")]
    parts += [f"{chat.tokens:,} tokens"] if chat.tokens else []
    parts += [f"the first {chat.n_left_out} left out"] if chat.n_left_out else []
    parts += [chat.model] if chat.model else []
    parts += [f"system: {bounded(chat.system, 60)}"] if chat.system else []
    return f"{chat.name:<10}  {', '.join(parts)}"


def _whole(chat: Conversation) -> str:
    lines = [f"system: {chat.system}"] if chat.system else []
    for number, turn in enumerate(chat.turns, 1):
        note = ", left out" if number <= chat.n_left_out else ""
        note += f", {turn.ending}" if turn.ending not in ("end_turn", "tool_use") else ""
        lines.append(f"[{number}{note}]")
        lines += [f"{message['role']}: {_text(message['content'])}" for message in turn.messages]
    return "\n".join(lines)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_block_text(block) for block in content)


def _block_text(block: dict[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block["text"])
        case "thinking":
            return f"(thinking) {block['thinking']}"
        case "tool_use":
            return f"(call) {block['name']} {json.dumps(block['input'], ensure_ascii=False)}"
        case "tool_result":
            return f"(result) {_text(block.get('content') or '')}"
    return f"({block.get('type')})"
