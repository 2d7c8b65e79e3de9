"""Reads the JSON object of one call as it is generated."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from nbllama.chat.automaton import MarkerSearch
from nbllama.chat.format import CallTags
from nbllama.chat.json_scanner import JsonScanner
from nbllama.chat.pieces import Piece, ToolArgsDelta, ToolStart, ToolStop

_SPACE = " \t\r\n"


class CallReader:
    """One attempt to read `{"name": …, "arguments": {…}}`.

    Nothing is announced until a known name is read; if that cannot be any more, `rejected` is set and the text was no
    call. From then on the arguments are passed on as generated, and the call always ends in a ToolStop. Arguments
    that come before the name wait for it; other keys are dropped. What is no JSON after the name goes into the
    arguments, up to the closing tag, and the call is not complete.
    """

    def __init__(self, tags: CallTags, index: int, tool_names: Collection[str]) -> None:
        self._tags = tags
        self._index = index
        self._tool_names = tool_names
        self.announced = False
        self.rejected = False
        self.done = False
        self.name = ""
        self._expects = "open"
        self._key = ""
        self._scanner: JsonScanner | None = None
        self._is_object = False
        self._held: list[str] = []
        self._arguments: str | None = None
        self._broken: MarkerSearch | None = None
        self._pieces: list[Piece] = []
        self._steps: dict[str, Callable[[str, int], int]] = {
            "open": self._open,
            "key": self._start_key,
            "key_or_end": self._start_key,
            "in_key": self._in_key,
            "colon": self._colon,
            "value": self._start_value,
            "in_value": self._in_value,
            "comma": self._comma,
            "broken": self._in_broken,
        }

    def feed(self, text: str, start: int) -> tuple[int, list[Piece]]:
        """(position reached, pieces). It stops behind the object, or where it was rejected."""
        position = start
        while position < len(text) and not (self.done or self.rejected):
            in_token = self._expects in ("in_key", "in_value", "broken")
            if not in_token and text[position] in _SPACE:
                position += 1
            else:
                position = self._steps[self._expects](text, position)
        pieces, self._pieces = self._pieces, []
        return position, pieces

    def finish(self) -> list[Piece]:
        """Ends an announced call where the text ends."""
        if self._broken is not None:
            self._send(self._broken.flush())
        self._stop(complete=self._broken is None and self._arguments is not None)
        pieces, self._pieces = self._pieces, []
        return pieces

    def _fail(self, position: int) -> int:
        if not self.announced:
            self.rejected = True
        elif self._arguments is not None:
            self._stop(complete=True)
        else:
            self._broken = MarkerSearch([self._tags.close])
            self._flush_held()
            self._expects = "broken"
        return position

    def _stop(self, *, complete: bool) -> None:
        self._flush_held()
        self.done = True
        self._pieces.append(ToolStop(self._index, complete))

    def _send(self, text: str) -> None:
        if text:
            self._pieces.append(ToolArgsDelta(self._index, text))

    def _flush_held(self) -> None:
        self._send("".join(self._held))
        self._held = []

    def _open(self, text: str, position: int) -> int:
        if text[position] != "{":
            return self._fail(position)
        self._expects = "key_or_end"
        return position + 1

    def _start_key(self, text: str, position: int) -> int:
        if text[position] == '"':
            self._scanner, self._key, self._expects = JsonScanner(), "", "in_key"
            self._key_parts: list[str] = []
            return position
        if text[position] == "}" and self._expects == "key_or_end":
            return self._end(position)
        return self._fail(position)

    def _in_key(self, text: str, position: int) -> int:
        scanner = self._scanner or JsonScanner()
        position, part = scanner.feed(text, position)
        self._key_parts.append(part)
        if scanner.failed:
            return self._fail(position)
        if scanner.done:
            self._key, self._expects = json.loads("".join(self._key_parts)), "colon"
        return position

    def _colon(self, text: str, position: int) -> int:
        if text[position] != ":":
            return self._fail(position)
        self._expects = "value"
        return position + 1

    def _start_value(self, text: str, position: int) -> int:
        self._scanner, self._expects = JsonScanner(), "in_value"
        self._is_object = text[position] == "{"
        self._value_parts: list[str] = []
        return position

    def _in_value(self, text: str, position: int) -> int:
        scanner = self._scanner or JsonScanner()
        position, part = scanner.feed(text, position)
        if self._reads_arguments:
            self._take_arguments(part)
        else:
            self._value_parts.append(part)
        if scanner.failed:
            return self._fail(position)
        return self._end_value(position) if scanner.done else position

    @property
    def _reads_arguments(self) -> bool:
        return self._key == self._tags.arguments_key and self._arguments is None

    def _take_arguments(self, part: str) -> None:
        if self.announced and self._is_object:
            self._send(part)
            self._value_parts = ["{}"]
        else:
            self._held.append(part)

    def _end_value(self, position: int) -> int:
        self._expects = "comma"
        if self._reads_arguments:
            return self._end_arguments(position)
        if self._key == self._tags.name_key and not self.announced:
            return self._end_name(position)
        return position

    def _end_arguments(self, position: int) -> int:
        """Arguments may also be null (none) or, from some models, a JSON string that holds the object."""
        if not self._is_object:
            unwrapped = _as_object("".join(self._held))
            if unwrapped is None:
                return self._fail(position)
            self._held = [unwrapped]
        self._arguments = "{}"
        if self.announced:
            self._flush_held()
        return position

    def _end_name(self, position: int) -> int:
        name = json.loads("".join(self._value_parts))
        if not isinstance(name, str) or name not in self._tool_names:
            self.rejected = True
            return position
        self.announced, self.name = True, name
        self._pieces.append(ToolStart(self._index, name))
        self._flush_held()
        return position

    def _comma(self, text: str, position: int) -> int:
        if text[position] == ",":
            self._expects = "key"
            return position + 1
        return self._end(position) if text[position] == "}" else self._fail(position)

    def _end(self, position: int) -> int:
        if not self.announced:
            self.rejected = True
            return position
        if self._arguments is None:
            self._send("{}")
        self._stop(complete=True)
        return position + 1

    def _in_broken(self, text: str, position: int) -> int:
        search = self._broken or MarkerSearch([self._tags.close])
        plain, position, marker = search.feed(text, position)
        self._send(plain)
        if marker is not None:
            self._stop(complete=False)
        return position


def _as_object(text: str) -> str | None:
    """The JSON text of the object that `text`, itself JSON, stands for."""
    try:
        value = json.loads(text)
        if value is None:
            return "{}"
        if isinstance(value, str) and isinstance(json.loads(value), dict):
            return value
    except ValueError:
        pass
    return None
