"""Answers that are a row of messages with headers: a header routes its message to thinking, text or a call."""

from __future__ import annotations

import re

from nbllama.chat.format import Channels, Route
from nbllama.chat.free_text import FreeText
from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading

MAX_HEADER = 200


class MessageReader:
    """Reads message after message. What has no proper header is text."""

    def __init__(self, free: FreeText, channels: Channels, thinking: bool) -> None:
        self._free = free
        self._source = free.source
        self._output = free.output
        self._channels = channels
        self._thinking = thinking
        self._start = Marker(channels.start)
        self._header_end = Markers({"end": Marker(channels.header_end, exact=True)})
        self._ends = {f"end{index}": Marker(end) for index, end in enumerate(channels.ends)} | {"next": self._start}
        self._routes = [(route, _pattern(route)) for route in channels.routes]

    def read(self) -> Reading[None]:
        source = self._source
        while True:
            if not (yield from self._message()):
                yield from self._body("text", "")
            if source.ended and source.empty:
                return

    def _message(self) -> Reading[bool]:
        """One message with its header, from where a header may stand to before what ends it."""
        source = self._source
        source.begin()
        yield from source.skip_space()
        if (yield from source.take_marker(self._start)):
            yield from source.skip_space()
        found = yield from source.short_until(self._header_end, self._may_be_header)
        route = self._route(found[0]) if found else None
        if found is None or route is None or found[1].match is None:
            source.rollback()
            return False
        kind, name = route
        header = found[0] + self._channels.header_end
        source.take(found[1].match.end)
        source.commit()
        if kind == "think" and not self._thinking:
            yield from self._verbatim(header.lstrip())
            return True
        self._output.marker()
        self._free.begin_message()
        if self._free.log:
            self._free.log.note("header", f"{kind} {name}".strip())
        yield from self._body(kind, name)
        return True

    def _may_be_header(self, text: str) -> bool:
        begun = text.lstrip()
        if len(text) > MAX_HEADER:
            return False
        words = self._channels.openers or tuple(route.header for route in self._channels.routes)
        if any(word.lstrip().startswith(begun) or begun.startswith(word.lstrip()) for word in words if word):
            return True
        return not self._channels.openers and any(name.startswith(begun.strip()) for name in self._free.tools)

    def _route(self, header: str) -> tuple[str, str] | None:
        """(kind, tool). A call of no known tool is text."""
        for route, pattern in self._routes:
            found = pattern.search(header)
            if found:
                name = found.groupdict().get("name", "")
                if route.kind == "call" and name not in self._free.tools:
                    return ("text", "") if self._channels.openers else None
                return route.kind, name
        return None

    def _body(self, kind: str, name: str) -> Reading[None]:
        if kind == "call":
            yield from self._call(name)
        if kind == "think":
            self._output.start_thinking()
        while True:
            hit = yield from self._free.until_end(self._ends, calls=kind == "calls")
            if kind == "think" and (hit is None or hit.name != "next"):
                self._output.stop_thinking()
            if hit is None or hit.match is None:
                return
            if hit.name != "next":
                self._source.take(hit.match.end)
                self._output.marker()
                self._free.begin_message()
                if self._free.log:
                    self._free.log.note("body", "end of message")
                return
            if (yield from self._begins_message()):
                if kind == "think":
                    self._output.stop_thinking()
                return
            self._free.say(self._source.take(self._source.at + 1))

    def _begins_message(self) -> Reading[bool]:
        """Whether a whole header stands here; nothing is consumed."""
        source = self._source
        source.begin()
        yield from source.take_marker(self._start)
        yield from source.skip_space()
        found = yield from source.short_until(self._header_end, self._may_be_header)
        good = found is not None and self._route(found[0]) is not None
        source.rollback()
        return good

    def _call(self, name: str) -> Reading[None]:
        """The arguments, one JSON object; what is none goes into them up to the end of the message."""
        source, output = self._source, self._output
        output.start_call(name)
        yield from source.skip_space()
        if (yield from source.peek()) != "{":
            output.arguments("{}")
        elif not (yield from source.json(output.arguments)):
            yield from source.until(Markers(self._ends), output.arguments)
        output.stop_call()
        if self._free.log:
            self._free.log.note("call", f"call of {name}")

    def _verbatim(self, header: str) -> Reading[None]:
        """Thinking that is to stay text, tags and all."""
        self._free.say(header)
        hit = yield from self._free.until_end(self._ends, calls=False)
        if hit is not None and hit.match is not None and hit.name != "next":
            self._free.say(self._source.take(hit.match.end))


def _pattern(route: Route) -> re.Pattern[str]:
    if route.header == "{name}":
        return re.compile(r"\A\s*(?P<name>\S+)\s*\Z")
    before, slot, _ = route.header.partition("{name}")
    # A recipient whose name only begins so is another one: `to=selfie`, `allocate` for `all`.
    return re.compile(re.escape(before) + (r"(?P<name>[^\s<]+)" if slot else r"(?![\w.-])"))
