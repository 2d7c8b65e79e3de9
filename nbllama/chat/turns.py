"""The turns of a request: messages of one role in a row, without what was cleared or is told in short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nbllama.chat.block_texts import check_readable
from nbllama.chat.capabilities import Capabilities
from nbllama.chat.prompt import Origin
from nbllama.wire.content import CompactionBlock
from nbllama.wire.requests import CountTokensRequest


@dataclass(slots=True)
class Turn:
    """Messages of one role in a row; the API takes them as one. `blocks` know their place in the request."""

    role: str
    blocks: list[tuple[Any, Origin]] = field(default_factory=list)


def turns_of(request: CountTokensRequest, can: Capabilities, images: bool) -> Iterator[Turn]:
    """Raises UnsupportedContent, naming the block."""
    turn: Turn | None = None
    summary = _last_summary(request)
    last_user = max((i for i, message in enumerate(request.messages) if message.role == "user"), default=-1)
    for index, message in enumerate(request.messages):
        if message.clear_at == "next_user_message" and index < last_user:
            continue
        kind = message.role
        role = "user" if kind == "system" and can.system != "anywhere" else kind
        if index == summary[0]:
            # It stands for what was said before it, so it is told to the model, not by it.
            yield Turn("user", [(message.content[summary[1]], Origin(kind, *summary))])
            turn = None
        kept = [pair for pair in enumerate(message.content) if (index, pair[0]) > summary]
        if message.content and not kept:
            continue
        if turn is None or turn.role != role:
            if turn is not None:
                yield turn
            turn = Turn(role)
        for position, block in kept:
            check_readable(block, f"messages.{index}.content.{position}", images)
            turn.blocks.append((block, Origin(kind, index, position)))
    if turn is not None:
        yield turn


def _last_summary(request: CountTokensRequest) -> tuple[int, int]:
    """Where the last compaction with content stands, (-1, -1) if there is none."""
    places = (
        (index, position)
        for index, message in enumerate(request.messages)
        for position, block in enumerate(message.content)
        if isinstance(block, CompactionBlock) and block.content
    )
    return max(places, default=(-1, -1))
