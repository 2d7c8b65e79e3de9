"""Calls with one tag an argument. Values are raw text: what they are, the tag or the tool's schema says."""

from __future__ import annotations

from nbllama.chat.markers import Marker, Markers, Match
from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.reading import Call
from nbllama.chat.values import json_of, quoted, types_of

_CDATA = Marker("<![CDATA[")
_CDATA_END = "]]>"
_MAX_KEY = 300
# What tags say of a value's type, in the formats that say it.
_TAG_TYPES = {"true": "string", "false": "any"}
_JSON_TYPES = frozenset(("string", "number", "integer", "boolean", "null", "array", "object"))


def read(call: Call) -> Reading[bool]:
    """Announced once the name is known; arguments become JSON as they come, those that are text by the character."""
    source, output = call.source, call.output
    found = yield from call.name_until(call.marks.name_ends)
    if found is None:
        return False
    name, _, hit = found
    source.take(hit.match.end if hit.match and hit.name == "name_close" else hit.start)
    output.start_call(name, call.id)
    output.arguments("{")
    between = Markers(call.marks.between)
    n_values = 0
    while True:
        yield from source.skip_space()
        hit_here = yield from source.find_at(between)
        if hit_here is None or hit_here.name != "key_open" or hit_here.match is None:
            break
        source.take(hit_here.match.end)
        if not (yield from _argument(call, name, first=n_values == 0)):
            return True
        n_values += 1
    if source.ended and source.empty and call.marks.closing:
        output.stop_call()
        return True
    output.arguments("}")
    yield from call.end()
    return True


def _argument(call: Call, name: str, *, first: bool) -> Reading[bool]:
    """Key and value. False where the text ended inside; the call is stopped then."""
    source, output = call.source, call.output
    found = yield from source.short_until(Markers({"open": call.marks.value_open}), lambda key: len(key) <= _MAX_KEY)
    if found is None or found[1].match is None:
        yield from call.broken()
        return False
    key, opened = found[0].strip(), found[1].match
    output.arguments(("" if first else ", ") + f'"{quoted(key)}": ')
    value = _Value(call, name, key, opened)
    closed = yield from value.read()
    if not closed:
        output.stop_call()
    return closed


class _Value:
    def __init__(self, call: Call, name: str, key: str, opened: Match) -> None:
        self._call = call
        self._opened = opened
        self._types = _types(call, name, key, opened)
        self._streams = self._types == {"string"}
        self._begun = False
        self._newline = False
        self._parts: list[str] = []

    def read(self) -> Reading[bool]:
        """Up to behind what closes it. False: the text ended first."""
        yield from self._open()
        cdata = self._call.marks.calls.cdata and (yield from self._call.source.take_marker(_CDATA)) is not None
        closed = yield from self._until_closed(_CDATA_END if cdata else "")
        if self._newline and not (closed and self._call.marks.calls.value_close.startswith("\n")):
            self._put("\n")
        self._finish(closed)
        return closed

    def _open(self) -> Reading[None]:
        """A line break that ends the opening marker is the format's, any further one the value's."""
        source, marker = self._call.source, self._call.marks.calls.value_open
        source.take(self._opened.end)
        if marker.endswith("\n") and (yield from source.peek()) == "\n":
            source.take(source.at + 1)

    def _until_closed(self, before_close: str) -> Reading[bool]:
        """A closing marker counts only before a further argument, what closes the call, or the end of the text."""
        source, marks = self._call.source, self._call.marks
        closer = Marker(before_close + marks.calls.value_close.lstrip()) if before_close else marks.value_close
        closers, following = Markers({"close": closer}), Markers(marks.between)
        while True:
            hit = yield from source.until(closers, self._say)
            if hit is None or hit.match is None:
                return False
            if (yield from self._is_followed(hit.match, following)):
                source.take(source.at + hit.match.end - hit.start)
                return True
            self._say(source.take(source.at + 1))

    def _is_followed(self, match: Match, following: Markers) -> Reading[bool]:
        source = self._call.source
        length = match.end - source.at
        while True:
            text, start = source.text, source.at + length
            limit = min(len(text), start + 64)
            while start < limit and text[start] in " \t\r\n":
                start += 1
            if start >= len(text):
                if source.ended:
                    return True
                yield
                continue
            hit = following.at(text, start, ended=source.ended)
            if hit is None or hit.match:
                return hit is not None
            yield

    def _say(self, text: str) -> None:
        """Holds back one line break, which may belong to the closing marker."""
        if self._newline:
            text, self._newline = "\n" + text, False
        if text.endswith("\n"):
            text, self._newline = text[:-1], True
        self._put(text)

    def _put(self, text: str) -> None:
        if not self._streams:
            self._parts.append(text)
        elif text:
            self._call.output.arguments(("" if self._begun else '"') + quoted(text))
            self._begun = True

    def _finish(self, closed: bool) -> None:
        output = self._call.output
        if not self._streams:
            output.arguments(json_of("".join(self._parts), self._types))
        elif closed:
            output.arguments('"' if self._begun else '""')


def _types(call: Call, name: str, key: str, opened: Match) -> frozenset[str]:
    said = opened.slots.get("any", "").strip(' "')
    said = said.rpartition('"')[2]
    if said in _TAG_TYPES or said in _JSON_TYPES:
        return frozenset((_TAG_TYPES.get(said, said),))
    schema = call.schema(name, key)
    return types_of(schema, call.root(name)) if schema is not None else frozenset(("any",))
