"""Pieces → content block events: one block after another, never two open."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import Literal

from nbllama.answer.partial_json import PartialJson
from nbllama.answer.signatures import Signer
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ThinkStart, ThinkStop, ToolArgsDelta, ToolStart, ToolStop
from nbllama.wire.answers import new_id
from nbllama.wire.events import ContentBlockDelta, ContentBlockStart, ContentBlockStop, Event

_TEXT_OF_DELTA = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}

BlockKind = Literal["text", "thinking", "tool_use"]


class BlockWriter:
    """Keeps the index, the open block and what must be held back.

    `thinking` says what becomes of thinking: shown, omitted (a block with a signature and no text), or hidden
    (no block at all, because the request switched thinking off). With `one_call` the answer is over after a call.
    A model's own id for a call is kept unless it is one of those `taken`: some count from 0 in each answer.
    """

    def __init__(
        self,
        thinking: Literal["shown", "omitted", "hidden"],
        *,
        one_call: bool = False,
        taken: Iterable[str] = (),
        sign: Callable[[bytes], str] | None = None,
    ) -> None:
        self._thinking = thinking
        self._taken = set(taken)
        self._sign = sign or Signer().sign
        self._one_call = one_call
        self._index = -1
        self._open: BlockKind | None = None
        self._space = ""
        self._hash = hashlib.sha256()
        self._arguments = PartialJson()
        self.n_calls = 0
        self.in_thinking = False

    @property
    def over(self) -> bool:
        """Whether the one call that was wanted is there: nothing more is written."""
        return self._one_call and self.n_calls > 0 and self._open != "tool_use"

    def write(self, pieces: Iterable[Piece]) -> list[Event]:
        """The events for some pieces."""
        events: list[Event] = []
        for piece in pieces:
            if not self.over:
                events += self._write(piece)
        return events

    def close(self) -> list[Event]:
        """Closes what is open, at the end of the answer."""
        self.in_thinking = False
        return self._close_block()

    def _write(self, piece: Piece) -> list[Event]:
        match piece:
            case ThinkStart():
                self.in_thinking = True
                self._hash = hashlib.sha256()
                return self._open_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            case ThinkDelta(text):
                return self._think(text)
            case ThinkStop():
                self.in_thinking = False
                return self._close_block()
            case TextDelta(text):
                return self._text(text)
            case ToolStart(_, name, id):
                return self._start_call(name, id)
            case ToolArgsDelta(_, text):
                return self._delta("input_json_delta", "partial_json", self._arguments.feed(text))
            case ToolStop():
                return self._close_block()

    def _think(self, text: str) -> list[Event]:
        self._hash.update(text.encode("utf-8", errors="replace"))
        return self._delta("thinking_delta", "thinking", text) if self._thinking == "shown" else []

    def _text(self, text: str) -> list[Event]:
        """Text opens its block with the first character that is not space: no answer holds an empty text block."""
        if self._open == "text":
            return self._delta("text_delta", "text", text)
        self._space += text
        if not self._space.strip():
            return []
        text, self._space = self._space, ""
        return self._open_block("text", {"type": "text", "text": ""}) + self._delta("text_delta", "text", text)

    def _start_call(self, name: str, id: str | None) -> list[Event]:
        self._arguments = PartialJson()
        self.n_calls += 1
        id = id if id and id not in self._taken else new_id("toolu")
        self._taken.add(id)
        block: dict[str, object] = {"type": "tool_use", "id": id, "name": name, "input": {}}
        return [*self._open_block("tool_use", block), *self._delta("input_json_delta", "partial_json", "", empty=True)]

    def _open_block(self, kind: BlockKind, block: dict[str, object]) -> list[Event]:
        events = self._close_block()
        self._space = ""
        if kind == "thinking" and self._thinking == "hidden":
            return events
        self._index += 1
        self._open = kind
        return [*events, ContentBlockStart(self._index, block)]

    def _close_block(self) -> list[Event]:
        if self._open is None:
            return []
        events: list[Event] = []
        if self._open == "tool_use":
            events = self._delta("input_json_delta", "partial_json", self._arguments.close())
        elif self._open == "thinking":
            events = self._delta("signature_delta", "signature", self._signature())
        self._open = None
        return [*events, ContentBlockStop(self._index)]

    def _delta(self, type: str, key: str, text: str, *, empty: bool = False) -> list[Event]:
        if self._open is None or not (text or empty):
            return []
        return [ContentBlockDelta(self._index, {"type": type, key: text})]

    def _signature(self) -> str:
        """Opaque to clients, which echo it."""
        return self._sign(self._hash.digest())


def joined(events: Iterable[Event]) -> list[Event]:
    """The events with neighbouring deltas of a kind as one: what waited for a slow reader goes out together."""
    result: list[Event] = []
    for kind, group in itertools.groupby(events, key=_kind_of_delta):
        if kind is None:
            result += group
            continue
        key, deltas = _TEXT_OF_DELTA[kind], [event for event in group if isinstance(event, ContentBlockDelta)]
        text = "".join(event.delta[key] for event in deltas)
        result.append(ContentBlockDelta(deltas[0].index, {"type": kind, key: text}))
    return result


def _kind_of_delta(event: Event) -> str | None:
    """The type of a delta that may be joined: not of the empty one that begins a call."""
    if not isinstance(event, ContentBlockDelta):
        return None
    kind = str(event.delta["type"])
    return kind if event.delta.get(_TEXT_OF_DELTA.get(kind, "")) else None
