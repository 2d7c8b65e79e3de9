"""Streams a JSON object's text so that it can be closed at any moment.

A call that `max_tokens` cuts must still be a valid object on the wire. So a fragment is passed on only up to the last
point from which closing is honest: string values as they grow, everything else once it is whole. A key waits for its
value, a comma for the next key, a number or literal for its end. `close()` gives the missing end.
"""

from __future__ import annotations

import json
import math
import re

MAX_DEPTH = 100
"""Deeper values are cut: readers run out of stack, and a request that brings the call back is refused."""

_SPACE = " \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u(?![dD][89abAB])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,4}|u[dD][89abAB][0-9a-fA-F]{2}\\(?:u[0-9a-fA-F]{0,3})?)?")


class PartialJson:
    """Feed and close. Text that is no JSON object is never passed on; what came before it is closed properly."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._held = ""
        self._expects = "object"
        self._scalar = ""
        self._escape = ""
        self._done = False
        self._broken = False
        self._sent_any = False

    @property
    def complete(self) -> bool:
        """Whether the object has ended by itself."""
        return self._done

    def feed(self, text: str) -> str:
        """The part of everything fed so far that may be passed on now."""
        out: list[str] = []
        for char in text:
            if self._broken or self._done:
                break
            out.append(self._step(char))
        passed = "".join(out)
        self._sent_any = self._sent_any or bool(passed)
        return passed

    def close(self) -> str:
        """What makes everything passed on a valid JSON object; empty if it is one already."""
        if self._done:
            return ""
        if not self._sent_any:
            return "{}"
        end = '"' if self._expects == "string" else ""
        return end + "".join("}" if kind == "{" else "]" for kind in reversed(self._stack))

    def _step(self, char: str) -> str:
        handler = {
            "object": self._in_start,
            "key_or_end": self._in_key_start,
            "key": self._in_key,
            "colon": self._in_colon,
            "value": self._in_value_start,
            "value_or_end": self._in_value_start,
            "string": self._in_string,
            "scalar": self._in_scalar,
            "comma_or_end": self._in_after_value,
        }[self._expects]
        return handler(char)

    def _in_start(self, char: str) -> str:
        if char in _SPACE:
            return ""
        return self._open("{") if char == "{" else self._break()

    def _in_key_start(self, char: str) -> str:
        if char in _SPACE:
            return self._hold(char)
        if char == '"':
            self._expects = "key"
            return self._hold(char)
        after_comma = "," in self._held
        return self._close_container("}") if char == "}" and not after_comma else self._break()

    def _in_key(self, char: str) -> str:
        self._hold(char)
        if self._escape:
            self._escape = ""
        elif char == "\\":
            self._escape = char
        elif char == '"':
            self._expects = "colon"
            return "" if _is_text(self._held[self._held.index('"') :]) else self._break()
        elif char < " ":
            return self._break()
        return ""

    def _in_colon(self, char: str) -> str:
        if char == ":":
            self._expects = "value"
        elif char not in _SPACE:
            return self._break()
        return self._hold(char)

    def _in_value_start(self, char: str) -> str:
        if char in _SPACE:
            return self._hold(char)
        if char == "]" and self._expects == "value_or_end":
            return self._close_container("]")
        if char in "{[":
            return self._open(char)
        if char == '"':
            self._expects = "string"
            return self._release() + char
        self._expects, self._scalar = "scalar", char
        return ""

    def _in_string(self, char: str) -> str:
        if self._escape:
            return self._in_escape(char)
        if char == "\\":
            self._escape = char
            return ""
        if char < " ":
            return self._break()
        if char == '"':
            self._expects = "comma_or_end"
        return char

    def _in_escape(self, char: str) -> str:
        """An escape is passed on whole; a high surrogate waits for its low half."""
        if _HIGH_SURROGATE.fullmatch(self._escape) and char != "\\":
            whole, self._escape = _without_halves(self._escape), ""
            return whole + self._in_string(char)
        self._escape += char
        if _ESCAPE.fullmatch(self._escape):
            whole, self._escape = _without_halves(self._escape), ""
            return whole
        return "" if _ESCAPE_BEGUN.fullmatch(self._escape) else self._break()

    def _in_scalar(self, char: str) -> str:
        if char not in _SPACE and char not in ",]}":
            self._scalar += char
            return ""
        if not _is_scalar(self._scalar):
            return self._break()
        whole, self._scalar = self._release() + self._scalar, ""
        self._expects = "comma_or_end"
        return whole + self._in_after_value(char)

    def _in_after_value(self, char: str) -> str:
        if char in _SPACE:
            return self._hold(char)
        if char == ",":
            self._expects = "key_or_end" if self._stack[-1] == "{" else "value"
            return self._hold(char)
        return self._close_container(char) if char in "}]" else self._break()

    def _open(self, char: str) -> str:
        if len(self._stack) >= MAX_DEPTH:
            return self._break()
        self._stack.append(char)
        self._expects = "key_or_end" if char == "{" else "value_or_end"
        return self._release() + char

    def _close_container(self, char: str) -> str:
        if self._stack.pop() != {"}": "{", "]": "["}[char]:
            self._stack.append("{" if char == "]" else "[")
            return self._break()
        self._done = not self._stack
        self._expects = "comma_or_end"
        return self._release() + char

    def _hold(self, char: str) -> str:
        self._held += char
        return ""

    def _release(self) -> str:
        held, self._held = self._held, ""
        return held

    def _break(self) -> str:
        self._broken = True
        return ""


def _is_scalar(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    # Python reads NaN, Infinity and 1e999, which are no JSON or none that can be written again.
    return not isinstance(value, float) or math.isfinite(value)


def _is_text(text: str) -> bool:
    """Whether `text` is a JSON string that UTF-8 can carry."""
    try:
        return not _SURROGATE.search(json.loads(text))
    except ValueError:
        return False


def _without_halves(escape: str) -> str:
    """The escape with U+FFFD for half a surrogate pair, which UTF-8 cannot carry."""
    text = json.loads(f'"{escape}"')
    return json.dumps(_SURROGATE.sub("\ufffd", text))[1:-1] if _SURROGATE.search(text) else escape
