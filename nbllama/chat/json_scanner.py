"""Recognises one JSON value in a stream and says where it ends.

Strict as RFC 8259, but for one mercy: a raw control character inside a string (models write code with real line
breaks) is passed on as its escape, so that what comes out is valid JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_LITERAL = re.compile(r"true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_HEX = frozenset("0123456789abcdefABCDEF")
# Python's own reader gives up on numbers of 4,300 digits and on nesting of about a thousand.
MAX_SCALAR = 1000
MAX_DEPTH = 200


class JsonScanner:
    """Feed it from where the value starts. After `done` or `failed` it takes nothing more."""

    def __init__(self) -> None:
        self.done = False
        self.failed = False
        self._stack: list[str] = []
        self._expects = "value"
        self._in_key = False
        self._scalar = ""
        self._hex_left = 0
        self._out: list[str] = []
        self._steps: dict[str, Callable[[str, int], int]] = {
            "value": self._value,
            "value_or_end": self._value,
            "key": self._key,
            "key_or_end": self._key,
            "colon": self._colon,
            "comma": self._comma,
            "string": self._string,
            "escape": self._escape,
            "hex": self._hex,
            "scalar": self._in_scalar,
        }

    def feed(self, text: str, start: int) -> tuple[int, str]:
        """(position reached, the JSON text of what was read). It stops behind the value or before what is wrong."""
        position = start
        while position < len(text) and not (self.done or self.failed):
            if self._expects not in ("string", "escape", "hex", "scalar"):
                position = self._skip_space(text, position)
                if position == len(text):
                    break
            position = self._steps[self._expects](text, position)
        out, self._out = "".join(self._out), []
        return position, out

    def _skip_space(self, text: str, position: int) -> int:
        end = _match_end(_SPACE, text, position)
        self._out.append(text[position:end])
        return end

    def _take(self, text: str, position: int, expects: str) -> int:
        self._out.append(text[position])
        self._expects = expects
        return position + 1

    def _fail(self, position: int) -> int:
        self.failed = True
        return position

    def _value(self, text: str, position: int) -> int:
        char = text[position]
        if char == '"':
            self._in_key = False
            return self._take(text, position, "string")
        if char in "{[" and len(self._stack) < MAX_DEPTH:
            self._stack.append(char)
            return self._take(text, position, "key_or_end" if char == "{" else "value_or_end")
        if char == "]" and self._expects == "value_or_end":
            return self._close(text, position)
        if char in "-0123456789tfn":
            self._expects = "scalar"
            return position
        return self._fail(position)

    def _key(self, text: str, position: int) -> int:
        if text[position] == '"':
            self._in_key = True
            return self._take(text, position, "string")
        if text[position] == "}" and self._expects == "key_or_end":
            return self._close(text, position)
        return self._fail(position)

    def _colon(self, text: str, position: int) -> int:
        return self._take(text, position, "value") if text[position] == ":" else self._fail(position)

    def _comma(self, text: str, position: int) -> int:
        char, container = text[position], self._stack[-1]
        if char == ",":
            return self._take(text, position, "key" if container == "{" else "value")
        return self._close(text, position) if char in "}]" else self._fail(position)

    def _close(self, text: str, position: int) -> int:
        if self._stack[-1] + text[position] not in ("{}", "[]"):
            return self._fail(position)
        self._stack.pop()
        self._take(text, position, "comma")
        self.done = not self._stack
        return position + 1

    def _string(self, text: str, position: int) -> int:
        end = _match_end(_PLAIN, text, position)
        self._out.append(text[position:end])
        if end == len(text):
            return end
        char = text[end]
        if char == "\\":
            return self._take(text, end, "escape")
        if char == '"':
            self._take(text, end, "colon" if self._in_key else "comma")
            self.done = not self._stack
        else:
            self._out.append(_ESCAPES.get(char) or f"\\u{ord(char):04x}")
        return end + 1

    def _escape(self, text: str, position: int) -> int:
        char = text[position]
        if char == "u":
            self._hex_left = 4
            return self._take(text, position, "hex")
        return self._take(text, position, "string") if char in '"\\/bfnrt' else self._fail(position)

    def _hex(self, text: str, position: int) -> int:
        if text[position] not in _HEX:
            return self._fail(position)
        self._hex_left -= 1
        return self._take(text, position, "hex" if self._hex_left else "string")

    def _in_scalar(self, text: str, position: int) -> int:
        end = _match_end(_SCALAR, text, position)
        part = text[position:end]
        if len(self._scalar) + len(part) > MAX_SCALAR:
            return self._fail(position)
        self._scalar += part
        self._out.append(part)
        return end if end == len(text) else self._end_scalar(end)

    def _end_scalar(self, position: int) -> int:
        if not _LITERAL.fullmatch(self._scalar):
            return self._fail(position)
        self._scalar = ""
        self._expects = "comma"
        self.done = not self._stack
        return position


def _match_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """The end of a pattern that matches everywhere, if only nothing."""
    found = pattern.match(text, position)
    return found.end() if found else position
