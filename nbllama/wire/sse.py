"""Events ⇄ server-sent event bytes.

Source: the WHATWG specification of event streams; which events and which JSON: anthropic-api §4. There is no `[DONE]`.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any

from nbllama.wire.events import Event


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as it travels: its name and its data, several data lines joined by newlines."""

    name: str
    data: str

    def json(self) -> Any:
        """The data as JSON. Raises ValueError."""
        return json.loads(self.data)


def encode(event: Event) -> bytes:
    """An event as bytes: name, one line of JSON, and the blank line without which no client sees it."""
    return encode_data(event.name, event.data())


def encode_data(name: str, value: Any) -> bytes:
    """The same of an event as a record keeps it."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, which a model's JSON escape can bring, has no UTF-8 form.
    return f"event: {name}\ndata: {data}\n\n".encode("utf-8", errors="replace")


def encode_comment(text: str) -> bytes:
    """Bytes that keep a line open and that no client sees as an event."""
    lines = text.splitlines() or [""]
    return "".join(f": {line}\n" for line in lines).encode("utf-8", errors="replace") + b"\n"


class Decoder:
    """Bytes → events. Feed and flush; any cut is allowed, also inside a character or between CR and LF."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line: list[str] = []
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete."""
        return self._take(self._decoder.decode(data))

    def flush(self) -> list[ServerSentEvent]:
        """The end of the stream. An event without its blank line never happened, says the specification."""
        self._decoder.reset()
        self._line.clear()
        self._name = ""
        self._data.clear()
        return []

    def _take(self, text: str) -> list[ServerSentEvent]:
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        if text.endswith("\r"):
            self._after_cr = True
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        events = []
        for line in lines[:-1]:
            self._line.append(line)
            whole = "".join(self._line)
            self._line.clear()
            if event := self._read(whole):
                events.append(event)
        self._line.append(lines[-1])
        return events

    def _read(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return ServerSentEvent(name or "message", "\n".join(data)) if data else None
