"""Which event may follow which: the table, and nothing else, decides.

Rule 1: whatever affects the order of a stream stands in `NEXT`. An illegal step is a bug of ours.

    before ── message_start ──► between ── content_block_start ──► in a block ── delta …
                                   ▲  │                                │
                                   │  └── message_delta ──► ended      │
                                   └──────── content_block_stop ◄──────┘
    ended ── message_stop ──► finished            any but finished ── error ──► finished

Source: anthropic-api §4. One block is open at a time, indexes count from 0 without gaps, a delta fits its block.
"""

from __future__ import annotations

from enum import Enum

from nbllama.errors import NbllamaError
from nbllama.wire.events import ContentBlockDelta, ContentBlockStart, ContentBlockStop, Event


class StreamOrderError(NbllamaError):
    """An event at a place where the protocol has none."""


class State(Enum):
    BEFORE = "before"
    BETWEEN = "between"
    TEXT = "text"
    THINKING = "thinking"
    SIGNED = "signed thinking"
    TOOL_USE = "tool_use"
    ENDED = "ended"
    FINISHED = "finished"


_COMMON = {"error": State.FINISHED}

NEXT: dict[State, dict[str, State]] = {
    State.BEFORE: {"ping": State.BEFORE, "message_start": State.BETWEEN, **_COMMON},
    State.BETWEEN: {
        "ping": State.BETWEEN,
        "content_block_start:text": State.TEXT,
        "content_block_start:thinking": State.THINKING,
        "content_block_start:tool_use": State.TOOL_USE,
        "message_delta": State.ENDED,
        **_COMMON,
    },
    State.TEXT: {
        "ping": State.TEXT,
        "content_block_delta:text_delta": State.TEXT,
        "content_block_stop": State.BETWEEN,
        **_COMMON,
    },
    State.THINKING: {
        "ping": State.THINKING,
        "content_block_delta:thinking_delta": State.THINKING,
        "content_block_delta:signature_delta": State.SIGNED,
        "content_block_stop": State.BETWEEN,
        **_COMMON,
    },
    # One signature, and nothing after it: clients that echo the block need it as it was.
    State.SIGNED: {"ping": State.SIGNED, "content_block_stop": State.BETWEEN, **_COMMON},
    State.TOOL_USE: {
        "ping": State.TOOL_USE,
        "content_block_delta:input_json_delta": State.TOOL_USE,
        "content_block_stop": State.BETWEEN,
        **_COMMON,
    },
    State.ENDED: {"ping": State.ENDED, "message_stop": State.FINISHED, **_COMMON},
    State.FINISHED: {},
}


class StreamOrder:
    """Follows one stream through the table."""

    def __init__(self) -> None:
        self.state = State.BEFORE
        self._n_blocks = 0

    @property
    def finished(self) -> bool:
        """Whether the one terminal event has passed."""
        return self.state is State.FINISHED

    def check(self, event: Event) -> None:
        """Lets an event pass, or raises StreamOrderError with the event and the state."""
        step = _step_of(event)
        following = NEXT[self.state].get(step)
        if following is None:
            raise StreamOrderError(f"{step} may not come in state {self.state.value}")
        self._check_index(event, step)
        self.state = following

    def _check_index(self, event: Event, step: str) -> None:
        if isinstance(event, ContentBlockStart):
            expected = self._n_blocks
            self._n_blocks += 1
        elif isinstance(event, ContentBlockDelta | ContentBlockStop):
            expected = self._n_blocks - 1
        else:
            return
        if event.index != expected:
            raise StreamOrderError(f"{step} has index {event.index}, expected {expected}")


def _step_of(event: Event) -> str:
    if isinstance(event, ContentBlockStart):
        return f"{event.name}:{event.block.get('type')}"
    if isinstance(event, ContentBlockDelta):
        return f"{event.name}:{event.delta.get('type')}"
    return event.name
