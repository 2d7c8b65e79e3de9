"""Which part of the answer each generated token belongs to: thinking, text, a tool call, or a marker of the format."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from nbllama.views.reading import Origin, Reading, whole_number

_OF_PIECES = {
    "ThinkStart": "marker",
    "ThinkStop": "marker",
    "ThinkDelta": "thinking",
    "TextDelta": "text",
    "ToolStart": "tool call",
    "ToolArgsDelta": "tool call",
    "ToolStop": "tool call",
}
_FIRST = ("tool call", "thinking", "text", "marker")


def answer_offsets(reading: Reading) -> list[int] | None:
    """For each token of the answer the character of `output_text` where it begins, or in which it does; None without
    pieces. Counted and not searched: bytes that are no character became U+FFFD there, and what is masked became •."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    offsets, at, length = [], 0, len(reading.text("output_text"))
    for id in reading.output_ids:
        if (piece := reading.piece(id)) is None:
            return None
        offsets.append(min(at, length))
        at += len(decoder.decode(piece))
    return offsets or None


def answer_origins(reading: Reading) -> list[Origin]:
    """One for each of `output_ids`."""
    steps = [step for step in reading.mappings("parser_steps") if whole_number(step.get("start")) is not None]
    offsets = answer_offsets(reading) if steps else None
    if offsets is None:
        return [Origin("answer")] * len(reading.output_ids)
    starts = [int(step["start"]) for step in steps]
    if starts != sorted(starts):
        steps = _read_last(steps)
        starts = [int(step["start"]) for step in steps]
    return [Origin(f"answer: {_part(steps[max(0, bisect_right(starts, at) - 1)])}") for at in offsets]


def _read_last(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without what was taken back: of text that was read twice, what it became the second time counts."""
    kept: list[Mapping[str, Any]] = []
    for step in reversed(steps):
        if not kept or step["start"] < kept[-1]["start"]:
            kept.append(step)
    return kept[::-1]


def _part(step: object) -> str:
    pieces = step.get("pieces") if isinstance(step, dict) else None
    parts = {_OF_PIECES.get(str(piece), "text") for piece in pieces} if isinstance(pieces, list) else set()
    return next((part for part in _FIRST if part in parts), "marker")
