"""What a conversation must be like before anything renders it. Source: anthropic-api §2.3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nbllama.wire.content import (
    ContentBlock,
    InputMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UnavailableBlock,
)
from nbllama.wire.errors import InvalidRequest

# Whose turn a block may stand in; those that are not here may stand in anybody's but the system's.
_ROLE_OF = {
    "image": "user",
    "search_result": "user",
    "tool_result": "user",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_use": "assistant",
    "server_tool_use": "assistant",
    "mcp_tool_use": "assistant",
    "tool_addition": "system",
    "tool_removal": "system",
}


@dataclass(slots=True)
class Turn:
    """Messages of one role in a row. Blocks keep the numbers of their message and of their place in it."""

    role: str
    blocks: list[tuple[int, int, ContentBlock]] = field(default_factory=list)


def check_messages(messages: Sequence[InputMessage]) -> None:
    """Raises InvalidRequest in the API's words."""
    if not messages:
        raise InvalidRequest("messages: at least one message is required")
    for index, message in enumerate(messages):
        _check_roles(index, message)
        _check_not_empty(index, message, is_last=index == len(messages) - 1)
    _check_prefill(messages[-1])
    _check_tool_pairs(turns(messages))


def turns(messages: Sequence[InputMessage]) -> list[Turn]:
    """Messages → turns. A system message stands in nobody's way and belongs to none."""
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        if not turns or turns[-1].role != message.role:
            turns.append(Turn(message.role))
        turns[-1].blocks += [(index, position, block) for position, block in enumerate(message.content)]
    return turns


def _check_roles(index: int, message: InputMessage) -> None:
    for position, block in enumerate(message.content):
        place = f"messages.{index}.content.{position}"
        if message.role == "system" and block.type not in ("text", "tool_addition", "tool_removal"):
            raise InvalidRequest(f"{place}: `system` messages can only contain `text` blocks")
        parts = block.content if isinstance(block, ToolResultBlock) else [block]
        for part in parts:
            if isinstance(part, UnavailableBlock):
                raise InvalidRequest(f"{place}: `{part.type}` blocks need tools of Anthropic's, which are not here")
        role = _ROLE_OF.get(block.type, message.role)
        if role != message.role:
            raise InvalidRequest(f"{place}: `{block.type}` blocks can only be in `{role}` messages")


def _check_not_empty(index: int, message: InputMessage, *, is_last: bool) -> None:
    if any(isinstance(block, TextBlock) and not block.text for block in message.content):
        raise InvalidRequest("messages: text content blocks must be non-empty")
    may_be_empty = message.role == "system" or (is_last and message.role == "assistant")
    if not message.content and not may_be_empty:
        raise InvalidRequest(
            f"messages.{index}: all messages must have non-empty content except for the optional final assistant "
            "message"
        )


def _check_prefill(last: InputMessage) -> None:
    """A last message of the assistant is the beginning of the answer."""
    block = last.content[-1] if last.role == "assistant" and last.content else None
    if isinstance(block, TextBlock) and block.text != block.text.rstrip():
        raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _check_tool_pairs(turns: Sequence[Turn]) -> None:
    """Every call is answered at the beginning of the next turn, every result answers a call of the previous one."""
    before = Turn("")
    for turn in turns:
        _check_answered(before, turn)
        _check_asked(turn, before)
        before = turn
    _check_answered(before, Turn("user"))


def _check_answered(turn: Turn, following: Turn) -> None:
    answered = set()
    for _, _, block in following.blocks:
        if not isinstance(block, ToolResultBlock):
            break
        answered.add(block.tool_use_id)
    calls = [(index, block.id) for index, _, block in turn.blocks if isinstance(block, ToolUseBlock)]
    unanswered = [(index, id) for index, id in calls if id not in answered]
    if unanswered:
        raise InvalidRequest(
            f"messages.{unanswered[0][0]}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(id for _, id in unanswered)}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message."
        )


def _check_asked(turn: Turn, preceding: Turn) -> None:
    asked = Counter(block.id for _, _, block in preceding.blocks if isinstance(block, ToolUseBlock))
    for index, position, block in turn.blocks:
        if not isinstance(block, ToolResultBlock):
            continue
        place, id = f"messages.{index}.content.{position}", block.tool_use_id
        if id not in asked:
            raise InvalidRequest(
                f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block "
                "must have a corresponding `tool_use` block in the previous message."
            )
        asked[id] -= 1
        if asked[id] < 0:
            raise InvalidRequest(
                f"{place}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            )
