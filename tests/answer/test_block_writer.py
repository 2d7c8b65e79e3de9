from __future__ import annotations

from nbllama.answer.block_writer import BlockWriter
from nbllama.chat.pieces import ToolStart, ToolStop
from nbllama.wire.events import ContentBlockStart


def test_a_models_own_id_is_kept_unless_it_is_taken() -> None:
    """Some models count their calls from 0 in each answer."""
    writer = BlockWriter("shown", taken=["0"])
    pieces = [ToolStart(index, "f", id) for index, id in enumerate(["0", "1", "1", None])]
    events = [event for piece in pieces for event in writer.write([piece, ToolStop(piece.index, True)])]
    ids = [str(event.block["id"]) for event in events if isinstance(event, ContentBlockStart)]
    assert ids[1] == "1" and len(set(ids)) == 4
    assert all(id.startswith("toolu_") for place, id in enumerate(ids) if place != 1)
