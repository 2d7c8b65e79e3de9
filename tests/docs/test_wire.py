"""docs/wire.md names every field, block and kind of tool that the code knows."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from nbllama.wire.content import ContentBlock, ResultContent
from nbllama.wire.requests import MessagesRequest
from nbllama.wire.tools import TOOL_TYPES

TEXT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
FIELDS = {field.alias or name for name, field in MessagesRequest.model_fields.items()}
BLOCKS = {
    type
    for union in (ContentBlock, ResultContent)
    for block in get_args(get_args(union)[0])
    for type in get_args(block.model_fields["type"].annotation)
}


@pytest.mark.parametrize("name", sorted(FIELDS | set(TOOL_TYPES) - {"custom"}))
def test_every_field_and_tool_is_named(name: str) -> None:
    assert f"`{name}`" in TEXT or f"`{name}." in TEXT


@pytest.mark.parametrize("name", sorted(name for name in BLOCKS if not name.endswith("_tool_result")))
def test_every_block_is_named(name: str) -> None:
    assert f"`{name}`" in TEXT
