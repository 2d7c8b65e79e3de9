"""What a conversation must be like before anything renders it. Source: anthropic-api §2.3."""

from __future__ import annotations

from collections.abc import Sequence

from nbllama.wire.content import InputMessage, TextBlock, ToolResultBlock, ToolUseBlock
from nbllama.wire.errors import InvalidRequest

Turn = tuple[str, list[tuple[str, object]]]


def check_messages(messages: Sequence[InputMessage]) -> None:
    """Raises InvalidRequest in the API's words."""
    if not messages:
        raise InvalidRequest("messages: at least one message is required")
    for message in messages:
        if any(isinstance(block, TextBlock) and not block.text for block in message.content):
            raise InvalidRequest("messages: text content blocks must be non-empty")
        if not message.content and message is not messages[-1]:
            raise InvalidRequest(
                "messages: all messages must have non-empty content except for the optional final assistant message"
            )
    _check_last(messages[-1])
    _check_tool_pairs(messages)


def _check_last(last: InputMessage) -> None:
    if not last.content and last.role != "assistant":
        raise InvalidRequest("messages: at least one content block is required in the last message")
    if last.role == "assistant" and last.content:
        block = last.content[-1]
        if isinstance(block, TextBlock) and block.text != block.text.rstrip():
            raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _check_tool_pairs(messages: Sequence[InputMessage]) -> None:
    """Every call is answered in the next turn, every result answers a call of the previous one."""
    turns = _turns(messages)
    for position, (role, blocks) in enumerate(turns):
        following = turns[position + 1][1] if position + 1 < len(turns) else []
        preceding = turns[position - 1][1] if position else []
        if role == "assistant":
            _check_answered(blocks, following)
        elif role == "user":
            _check_asked(blocks, preceding)


def _check_answered(blocks: list[tuple[str, object]], following: list[tuple[str, object]]) -> None:
    answered = {block.tool_use_id for _, block in following if isinstance(block, ToolResultBlock)}
    open_ids = [block.id for _, block in blocks if isinstance(block, ToolUseBlock) and block.id not in answered]
    if open_ids:
        where = next(path for path, block in blocks if isinstance(block, ToolUseBlock)).split(".content")[0]
        raise InvalidRequest(
            f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(open_ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message."
        )


def _check_asked(blocks: list[tuple[str, object]], preceding: list[tuple[str, object]]) -> None:
    asked = {block.id for _, block in preceding if isinstance(block, ToolUseBlock)}
    for path, block in blocks:
        if isinstance(block, ToolResultBlock) and block.tool_use_id not in asked:
            raise InvalidRequest(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )


def _turns(messages: Sequence[InputMessage]) -> list[Turn]:
    """Messages of one role in a row are one turn; system messages stand in nobody's way."""
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        blocks: list[tuple[str, object]] = [
            (f"messages.{index}.content.{position}", block) for position, block in enumerate(message.content)
        ]
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message.role, blocks))
    return turns
