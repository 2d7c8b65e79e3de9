"""An answer while it comes in: events in, what there is to show out. Pure: no clock, no socket, no display."""

from __future__ import annotations

import json
from typing import Any

from nbllama.wire.errors import ERRORS_BY_TYPE, ApiError, ServerFault
from nbllama.wire.sse import ServerSentEvent

_WAITING = {"loading": "loading the model", "queued": "waiting", "prefill": "reading the prompt"}


class AnswerView:
    """`waiting` is what the user waits for, `blocks` are the content blocks with their text so far.

    `ending` is empty while it runs, then the answer's stop_reason, or what the magic says: interrupted, failed.
    `error` is the error that ended the stream. `written` is the answer as the model wrote it, with the marks of
    thinking and calls, where that is known."""

    def __init__(self) -> None:
        self.waiting = ""
        self.blocks: list[dict[str, Any]] = []
        self.ending = ""
        self.error: ApiError | None = None
        self.written = ""
        self._message: dict[str, Any] | None = None
        self._open: int | None = None
        self._partial_json = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing of the answer yet."""
        return not any(block.get("text") or block.get("thinking") or block.get("name") for block in self.blocks)

    @property
    def texts(self) -> list[str]:
        """The blocks of text, as far as they came; without thinking and calls."""
        return [block["text"] for block in self.blocks if block.get("type") == "text"]

    def is_open(self, block: dict[str, Any]) -> bool:
        """Whether more of this block may come."""
        return self._open is not None and block is self.blocks[self._open]

    def arguments_so_far(self, block: dict[str, Any]) -> str:
        """The JSON of a call's arguments, as far as it came while the call is open."""
        return self._partial_json if self.is_open(block) else json.dumps(block.get("input"), ensure_ascii=False)

    def add(self, event: ServerSentEvent) -> None:
        """Takes the next event; one of a kind that is not known changes nothing. Raises ValueError for broken JSON."""
        self.add_data(event.json())

    def add_data(self, data: dict[str, Any]) -> None:
        """The same with an event's data, as a record keeps it."""
        match data.get("type"):
            case "ping":
                self.waiting = waiting_text(data.get("nbllama") or {})
            case "message_start":
                self._message = dict(data["message"])
            case "content_block_start":
                self.waiting = ""
                self.blocks.append(dict(data["content_block"]))
                self._open = len(self.blocks) - 1
                self._partial_json = ""
            case "content_block_delta":
                self._add_delta(self.blocks[-1], data["delta"])
            case "content_block_stop":
                self._close(self.blocks[-1])
            case "message_delta" if self._message is not None:
                self.ending = data["delta"].get("stop_reason") or "end_turn"
                usage = {**self._message.get("usage", {}), **data.get("usage", {})}
                self._message |= {**data["delta"], "usage": usage}
            case "error":
                self.error = _error(data.get("error") or {})

    def message(self) -> dict[str, Any] | None:
        """The Message as far as it came; None before its start. Unfinished, its `stop_reason` is None.

        A tool call that was broken off is left out: with half of its input it would be another one."""
        if self._message is None:
            return None
        return {**self._message, "content": [block for block in self.blocks if not self._is_half_a_call(block)]}

    def _is_half_a_call(self, block: dict[str, Any]) -> bool:
        return block.get("type") == "tool_use" and self.is_open(block)

    def _add_delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        match delta.get("type"):
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._partial_json += delta["partial_json"]

    def _close(self, block: dict[str, Any]) -> None:
        if self._partial_json:
            block["input"] = json.loads(self._partial_json)
        self._open, self._partial_json = None, ""


def waiting_text(progress: dict[str, Any]) -> str:
    """A ping's progress in words; empty if it has none."""
    state = str(progress.get("state") or "")
    text = _WAITING.get(state, "starting" if state else "")
    if state == "queued":
        return f"{text}: place {progress.get('position')} in the queue"
    fraction = progress.get("load") if state == "loading" else progress.get("prefill")
    return f"{text}: {fraction:.0%}" if fraction else text


def _error(error: dict[str, Any]) -> ApiError:
    kind = ERRORS_BY_TYPE.get(str(error.get("type")), ServerFault)
    return kind(str(error.get("message") or "the server gave no reason"), details=error.get("details"))
