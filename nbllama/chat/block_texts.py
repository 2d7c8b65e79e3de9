"""What a content block says as text, for templates that are given nothing else."""

from __future__ import annotations

import json
from typing import Any

from nbllama.chat.errors import UnsupportedContent
from nbllama.chat.server_results import readable
from nbllama.wire.content import (
    CompactionBlock,
    DocumentBlock,
    ImageBlock,
    SearchResultBlock,
    ServerToolResultBlock,
    ServerToolUseBlock,
    TextBlock,
    ToolReferenceBlock,
    ToolResultBlock,
)

IMAGE = "[image]"
"""Stands for an image where the template has no placeholder of its own."""


def check_readable(block: Any, path: str, images: bool) -> None:
    """Raises UnsupportedContent for what has no text: images unless they may be there, other documents."""
    parts = block.content if isinstance(block, ToolResultBlock) else [block]
    for part in parts:
        if not images and (isinstance(part, ImageBlock) or (isinstance(part, DocumentBlock) and _has_image(part))):
            raise UnsupportedContent(f"{path}: this model has no vision: it cannot be shown an image")
        if isinstance(part, DocumentBlock) and _document_text(part) is None:
            kind = part.source.get("media_type") or part.source.get("type")
            raise UnsupportedContent(f"{path}: this model cannot read documents of type {kind}, only plain text")


def _has_image(block: DocumentBlock) -> bool:
    content = block.source.get("content")
    return isinstance(content, list) and any(isinstance(part, dict) and part.get("type") == "image" for part in content)


_TEXTS = TextBlock | DocumentBlock | SearchResultBlock | ServerToolUseBlock | ServerToolResultBlock | ImageBlock


def is_text(block: Any) -> bool:
    """What is shown as text; images are only there where they may be, and where nothing else stands for them."""
    return isinstance(block, _TEXTS) or (isinstance(block, CompactionBlock) and bool(block.content))


def text_of(block: Any) -> str:
    """The text of a block that `is_text`, or of a part of a tool's result."""
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, ImageBlock):
        return IMAGE
    if isinstance(block, SearchResultBlock):
        return "\n".join([block.title, block.source, *(part.text for part in block.content)])
    if isinstance(block, ToolReferenceBlock):
        return f"The tool {block.tool_name} is available now."
    if isinstance(block, CompactionBlock):
        return f"The conversation so far, in short:\n{block.content}"
    if isinstance(block, ServerToolUseBlock):
        return f"[{block.name} was called with {json.dumps(block.input, ensure_ascii=False)}]"
    if isinstance(block, ServerToolResultBlock):
        return f"[{block.type}: {readable(block.content)}]"
    return "\n".join(part for part in (block.title, block.context, _document_text(block)) if part)


def _document_text(block: DocumentBlock) -> str | None:
    """The text of a document that is text, else None."""
    source = block.source
    if source.get("type") == "text" and isinstance(source.get("data"), str):
        return str(source["data"])
    content = source.get("content") if source.get("type") == "content" else None
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "\n".join(part["text"] for part in content)
    return None
