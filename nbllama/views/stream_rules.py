"""Judges a stream of events, anybody's: which rules of the Messages API it breaks, and at which event.

The order is the table of `wire.stream_states`; what the table does not know (block types of other servers) is let pass
with a note, because clients must. After a fault it goes on as a client would, so that each fault is told once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbllama.views.reading import as_timed
from nbllama.views.view import shorten
from nbllama.wire.stream_states import NEXT, State

LONG_SILENCE = 15.0
"""Seconds; clients and proxies give up on a line that is silent for long, and the API sends pings meanwhile."""

STOP_REASONS = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
)
_EVENTS = (
    "ping",
    "error",
    "message_start",
    "message_delta",
    "message_stop",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
)
_OF_BLOCK = {"text": State.TEXT, "thinking": State.THINKING, "tool_use": State.TOOL_USE}
_DELTAS = {
    "text": ("text_delta", "citations_delta"),
    "thinking": ("thinking_delta", "signature_delta"),
    "tool_use": ("input_json_delta",),
    "server_tool_use": ("input_json_delta",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`event` counts from 0, None is about the stream as a whole. `fault` False is a note: allowed, but odd."""

    event: int | None
    fault: bool
    sentence: str


@dataclass(slots=True)
class _Block:
    index: Any
    type: str
    known: bool
    parts: list[str] = field(default_factory=list)
    signed: bool = False
    begun: Any = None


def judge(events: Iterable[Any]) -> list[Finding]:
    """What is wrong with a stream. `events` are `[seconds, event]`, or events alone (JSON objects)."""
    judge = _Judge()
    for entry in events:
        judge.take(*as_timed(entry))
    judge.end()
    return judge.findings


class _Judge:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._state = State.BEFORE
        self._n = -1
        self._n_blocks = 0
        self._block: _Block | None = None
        self._types: set[str] = set()
        self._seconds: float | None = None
        self._told_late = False

    def take(self, seconds: float | None, event: Any) -> None:
        self._n += 1
        self._times(seconds)
        if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
            self._fault("is no object with a type")
            return
        kind = event["type"]
        if self._state is State.FINISHED:
            self._late(kind)
        elif kind not in _EVENTS:
            self._note(f"is of the unknown type {kind!r}, which clients skip")
        else:
            self._by_kind(kind, event)

    def end(self) -> None:
        if self._n < 0:
            self.findings.append(Finding(None, True, "The stream has no events."))
        elif self._state is not State.FINISHED:
            open_one = f" while block {self._block.index} is open" if self._block else ""
            sentence = f"The stream ends after event {self._n}{open_one}, without message_stop or error."
            self.findings.append(Finding(None, True, sentence))

    def _by_kind(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "content_block_start":
            self._start(event)
        elif kind == "content_block_delta":
            self._delta(event)
        elif kind == "content_block_stop":
            self._stop(event)
        else:
            self._step(kind)
            if kind == "message_start":
                self._message(event.get("message"))
            elif kind == "message_delta":
                self._ending(event)
            elif kind == "error":
                self._error(event.get("error"))

    def _step(self, step: str) -> None:
        """One step in the table; a wrong one is told, and taken as if it had been right."""
        # A stream has one message_delta or more: ours has one, so the table knows no second.
        again = (self._state, step) == (State.ENDED, "message_delta")
        following = State.ENDED if again else NEXT[self._state].get(step)
        if following is None:
            self._fault(f"is {step}, which may not come {self._where()}")
            following = _AFTER.get(step, self._state)
            if step in ("message_delta", "message_stop"):
                self._block = None
        self._state = following

    def _start(self, event: Mapping[str, Any]) -> None:
        content = event.get("content_block")
        content = content if isinstance(content, Mapping) else {}
        kind = str(content.get("type"))
        if self._state is not State.BETWEEN:
            self._fault(f"starts a {kind} block, which may not come {self._where()}")
        if event.get("index") != self._n_blocks:
            self._fault(f"starts block {event.get('index')!r}; indexes count from 0 without gaps: {self._n_blocks}")
        self._n_blocks += 1
        self._types.add(kind)
        self._block = _Block(event.get("index"), kind, kind in _OF_BLOCK)
        self._state = _OF_BLOCK.get(kind, State.TEXT)
        self._begins(kind, content)

    def _begins(self, kind: str, content: Mapping[str, Any]) -> None:
        assert self._block is not None
        if kind not in _DELTAS:
            self._note(f"starts a block of type {kind!r}, which this validator knows nothing about")
        if kind in ("text", "thinking") and content.get(kind) not in ("", None):
            self._note(f"starts a {kind} block that is not empty: its text should come in deltas")
        if kind == "tool_use":
            if not content.get("id") or not content.get("name"):
                self._fault("starts a tool_use block without an id or a name")
            if content.get("input") not in ({}, None):
                self._note("starts a tool_use block whose input is not {}: it should come in deltas")
            self._block.begun = content.get("input")

    def _delta(self, event: Mapping[str, Any]) -> None:
        delta = event.get("delta")
        delta = delta if isinstance(delta, Mapping) else {}
        kind, block = str(delta.get("type")), self._block
        if block is None:
            self._fault(f"is a {kind} while no block is open")
            self._take_as_started(event.get("index"), kind)
            return
        if event.get("index") != block.index:
            self._fault(f"is a delta for block {event.get('index')!r}; block {block.index!r} is open")
        if block.type in _DELTAS and kind not in _DELTAS[block.type]:
            self._fault(f"is a {kind} in a {block.type} block")
            return
        if block.signed:
            self._fault(f"is a {kind} after the block's signature, which ends it")
        block.signed |= kind == "signature_delta"
        text = next((delta[name] for name in ("text", "thinking", "partial_json") if name in delta), "")
        if isinstance(text, str):
            block.parts.append(text)
        else:
            self._fault(f"is a {kind} whose content is no text")

    def _take_as_started(self, index: Any, kind: str) -> None:
        """A block whose start alone is missing: told once, not at each of its deltas."""
        if self._state is not State.BETWEEN or index != self._n_blocks:
            return
        of_kind = next((block for block, deltas in _DELTAS.items() if kind in deltas), kind)
        # What came before is unknown, so its input cannot be judged at its end.
        self._block = _Block(index, f"{of_kind} without a start", False)
        self._n_blocks += 1
        self._types.add(of_kind)
        self._state = _OF_BLOCK.get(of_kind, State.TEXT)

    def _stop(self, event: Mapping[str, Any]) -> None:
        block, self._block = self._block, None
        if block is None:
            self._fault(f"is content_block_stop, which may not come {self._where()}")
            return
        self._state = State.BETWEEN
        if event.get("index") != block.index:
            self._fault(f"stops block {event.get('index')!r}; block {block.index!r} is open")
        if block.type == "tool_use":
            self._input(block)
        elif block.type == "thinking" and not block.signed:
            self._note("ends a thinking block without a signature; the real API always sends one")

    def _input(self, block: _Block) -> None:
        text = "".join(block.parts)
        try:
            value = json.loads(text) if text else block.begun or {}
        except (ValueError, RecursionError) as error:
            place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
            self._fault(f"ends a tool_use block whose input is no JSON{place}: {text[:60]!r}")
            return
        if not isinstance(value, dict):
            self._fault(f"ends a tool_use block whose input is no object: {text[:60]!r}")

    def _message(self, message: Any) -> None:
        if not isinstance(message, Mapping):
            self._fault("has no message")
            return
        if not isinstance(message.get("id"), str):
            self._fault("has a message without an id")
        if message.get("role") != "assistant":
            self._fault(f"has a message of the role {message.get('role')!r}, not 'assistant'")
        if message.get("content"):
            self._fault("has a message that has content already")
        if message.get("stop_reason") is not None:
            self._fault("has a message with a stop_reason; it comes in message_delta")
        if not isinstance(message.get("usage"), Mapping) or "input_tokens" not in message["usage"]:
            self._fault("has a message without usage.input_tokens")

    def _ending(self, event: Mapping[str, Any]) -> None:
        delta, usage = event.get("delta"), event.get("usage")
        reason = delta.get("stop_reason") if isinstance(delta, Mapping) else None
        if reason not in STOP_REASONS:
            self._fault(f"has the stop_reason {reason!r}, which the API does not know")
        if reason == "tool_use" and "tool_use" not in self._types:
            self._fault("says tool_use, but there is no tool_use block")
        if reason == "end_turn" and "tool_use" in self._types:
            self._note("says end_turn although there is a tool_use block; agents go on at tool_use only")
        if not isinstance(usage, Mapping) or not isinstance(usage.get("output_tokens"), int):
            self._fault("has no usage.output_tokens")

    def _error(self, error: Any) -> None:
        if not isinstance(error, Mapping) or not error.get("type") or "message" not in error:
            self._fault("is an error without error.type and error.message")

    def _times(self, seconds: float | None) -> None:
        if seconds is None:
            return
        if self._seconds is not None:
            gap = seconds - self._seconds
            if gap < 0:
                self._note(f"is {-gap:.3f} s earlier than the event before it")
            elif gap > LONG_SILENCE:
                self._note(f"comes after {gap:.1f} s of silence; a ping should have kept the line open")
        self._seconds = seconds

    def _late(self, kind: str) -> None:
        if not self._told_late:
            self._fault(f"is {kind} after the end of the stream")
        self._told_late = True

    def _where(self) -> str:
        return _PLACES.get(self._state, f"in a {self._state.value} block")

    def _fault(self, what: str) -> None:
        self._find(True, what)

    def _note(self, what: str) -> None:
        self._find(False, what)

    def _find(self, fault: bool, what: str) -> None:
        # What is wrong is told in the words of who sent it.
        self.findings.append(Finding(self._n, fault, f"Event {self._n} {shorten(what, 300)}."))


_PLACES = {
    State.BEFORE: "before message_start",
    State.BETWEEN: "between blocks",
    State.ENDED: "after message_delta",
    State.FINISHED: "after the end",
}
_AFTER = {"message_start": State.BETWEEN, "message_delta": State.ENDED, "message_stop": State.FINISHED}
