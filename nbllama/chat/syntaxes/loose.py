"""Python's literals, and others that are nearly JSON, as the JSON that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable

from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading, Source
from nbllama.chat.values import quoted

MAX_DEPTH = 100
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,300})(\.[0-9]{1,300})?([eE][-+]?[0-9]{1,2})?")
_WORD_END = re.compile(r"[,:=()\[\]{}'\"\s]")
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\", "\n": "", "/": "/"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


class LooseValue:
    """Reads one value and says it as JSON, strings as they come. With `quote` that alone stands around strings."""

    def __init__(self, source: Source, say: Callable[[str], None], quote: str = "") -> None:
        self._source = source
        self._say = say
        self._quote = Marker(quote)
        self._end_quote = Markers({"quote": self._quote})
        self._stack: list[str] = []
        self._needs_comma = False

    def read(self) -> Reading[bool]:
        """False where it is no value, or the text ended inside."""
        while True:
            yield from self._source.skip_space()
            char = yield from self._source.peek()
            if not char:
                return False
            if self._stack and char == _CLOSERS[self._stack[-1]]:
                self._close()
            elif self._stack and char == "," and self._needs_comma:
                self._source.take(self._source.at + 1)
                self._needs_comma = False
                self._say(", ")
                if (yield from self._trailing()):
                    return False
                continue
            elif self._needs_comma or not (yield from self._item()):
                return False
            if not self._stack:
                return True

    def _trailing(self) -> Reading[bool]:
        """A comma that nothing follows is already said: what was read is no JSON."""
        yield from self._source.skip_space()
        char = yield from self._source.peek()
        return bool(char) and char == _CLOSERS[self._stack[-1]]

    def _item(self) -> Reading[bool]:
        if self._stack and self._stack[-1] == "{" and not (yield from self._key()):
            return False
        yield from self._source.skip_space()
        char = yield from self._source.peek()
        if char and char in _CLOSERS:
            return self._open(char)
        self._needs_comma = True
        return (yield from self._scalar(as_key=False))

    def _open(self, char: str) -> bool:
        if len(self._stack) >= MAX_DEPTH:
            return False
        self._source.take(self._source.at + 1)
        self._stack.append(char)
        self._say("{" if char == "{" else "[")
        self._needs_comma = False
        return True

    def _close(self) -> None:
        self._source.take(self._source.at + 1)
        self._say("}" if self._stack.pop() == "{" else "]")
        self._needs_comma = True

    def _key(self) -> Reading[bool]:
        if not (yield from self._scalar(as_key=True)):
            return False
        yield from self._source.skip_space()
        if (yield from self._source.peek()) not in (":", "="):
            return False
        self._source.take(self._source.at + 1)
        self._say(": ")
        return True

    def _scalar(self, *, as_key: bool) -> Reading[bool]:
        if self._quote and (yield from self._source.take_marker(self._quote)):
            return (yield from self._marked_string())
        char = yield from self._source.peek()
        if char and char in "'\"":
            return (yield from self._string(char))
        return (yield from self._word(as_key=as_key))

    def _word(self, *, as_key: bool) -> Reading[bool]:
        source = self._source
        parts: list[str] = []
        while True:
            found = _WORD_END.search(source.text, source.at)
            parts.append(source.take(found.start() if found else len(source.text)))
            if found or source.ended:
                break
            yield
        word = "".join(parts)
        if not word:
            return False
        plain = None if as_key else _WORDS.get(word) or (word if _NUMBER.fullmatch(word) else None)
        self._say(plain or f'"{quoted(word)}"')
        return bool(found)

    def _marked_string(self) -> Reading[bool]:
        source = self._source
        self._say('"')
        hit = yield from source.until(self._end_quote, lambda text: self._say(quoted(text)))
        if hit is None or hit.match is None:
            return False
        source.take(hit.match.end)
        self._say('"')
        return True

    def _string(self, quote: str) -> Reading[bool]:
        source = self._source
        special = re.compile(f"[\\\\{quote}]")
        source.take(source.at + 1)
        self._say('"')
        while True:
            found = special.search(source.text, source.at)
            plain = source.take(found.start() if found else len(source.text))
            if plain:
                self._say(quoted(plain))
            if found and found.group() == quote:
                source.take(source.at + 1)
                self._say('"')
                return True
            if found:
                yield from self._escape()
            elif source.ended:
                return False
            else:
                yield

    def _escape(self) -> Reading[None]:
        source = self._source
        source.take(source.at + 1)
        char = yield from source.peek()
        source.take(source.at + 1)
        if char in _HEX_DIGITS:
            yield from self._hex(char)
        else:
            self._say(quoted(_ESCAPES.get(char, f"\\{char}")))

    def _hex(self, kind: str) -> Reading[None]:
        digits = ""
        while len(digits) < _HEX_DIGITS[kind]:
            char = yield from self._source.peek()
            if not char or char not in "0123456789abcdefABCDEF":
                self._say(quoted(f"\\{kind}{digits}"))
                return
            digits += self._source.take(self._source.at + 1)
        code = int(digits, 16)
        # Half a surrogate pair stays an escape: its other half may follow.
        self._say(f"\\u{code:04x}" if code < 0x10000 else quoted(chr(min(code, 0x10FFFF))))
