"""Text, thinking and calls as they follow one another in an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbllama.chat.deriving.cutting import tags_of
from nbllama.chat.explain import Log
from nbllama.chat.format import JSON_IN_TAGS, Format
from nbllama.chat.markers import Hit, Marker, Markers, Match
from nbllama.chat.output import Output
from nbllama.chat.source import SPACE, Reading, Source
from nbllama.chat.syntaxes.readers import READERS
from nbllama.chat.syntaxes.reading import Call, Marks

_CALL_TRIGGERS = ("section", "call", "inner", "bare", "lead")


class FreeText:
    """Reads until the text ends, or one of the `ends` that a message has."""

    def __init__(
        self, format: Format, source: Source, output: Output, tools: Mapping[str, Any], log: Log | None
    ) -> None:
        self.format = format
        self.source = source
        self.output = output
        self.tools = tools
        self.log = log
        self._marks = Marks(format.calls or JSON_IN_TAGS)
        self._fresh = True
        self._sets: dict[tuple[bool, bool, tuple[str, ...]], Markers] = {}

    def read(self) -> Reading[None]:
        """A whole answer that is no row of messages."""
        if self.format.think and not self.format.think.open:
            self.output.start_thinking()
        yield from self.until_end({})

    def until_end(self, ends: Mapping[str, Marker], *, calls: bool = True) -> Reading[Hit | None]:
        """The end that was found, not consumed; None where the text ends."""
        while True:
            markers = self._markers(ends, calls)
            hit = yield from self.source.until(markers, self.say)
            if hit is None or hit.match is None or hit.name in ends:
                return hit
            if hit.name in _CALL_TRIGGERS:
                yield from self._attempt(hit)
            else:
                self._pass(hit.name, hit.match)

    def say(self, text: str) -> None:
        """Text that is no marker."""
        self.output.say(text)
        if self._fresh and text.strip(SPACE):
            self._fresh = False
        if self.log:
            self.log.note(self._state, "no marker")

    def begin_message(self) -> None:
        """What comes is the first of a message."""
        self._fresh = True

    @property
    def _state(self) -> str:
        return "thinking" if self.output.thinking else "start" if self._fresh else "text"

    def _markers(self, ends: Mapping[str, Marker], calls: bool) -> Markers:
        thinking = self.output.thinking
        key = (thinking, calls, tuple(ends))
        if key not in self._sets:
            known = self._thinking_markers(calls) if thinking else self._text_markers(calls)
            self._sets[key] = Markers({**known, **ends})
        return self._sets[key]

    def _thinking_markers(self, calls: bool) -> dict[str, Marker]:
        markers = {"think_close": Marker(self.format.think.close)} if self.format.think else {}
        if self.format.content:
            markers["content_open"] = Marker(self.format.content.open)
        return markers | (self._triggers(calls) if self.format.tools_end_think else {})

    def _text_markers(self, calls: bool) -> dict[str, Marker]:
        markers = {f"swallow{index}": Marker(text) for index, text in enumerate(self.format.swallow)}
        if self.format.think:
            markers |= {"think_open": Marker(self.format.think.open), "think_close": Marker(self.format.think.close)}
        if self.format.content:
            markers["content_open"] = Marker(self.format.content.open)
            markers["content_close"] = Marker(self.format.content.close)
        header = tags_of(self.format.header.rstrip())
        if header and self.format.header.endswith(header[-1]):
            markers["echo"] = Marker(header[-1])
        return markers | self._triggers(calls)

    def _triggers(self, calls: bool) -> dict[str, Marker]:
        if not calls or self.format.calls is None or not self.tools:
            return {}
        triggers = dict(self._marks.triggers)
        if self._marks.bare:
            triggers |= {"bare": Marker("{"), "lead": Marker(self.format.calls.lead)}
        return triggers

    def _pass(self, name: str, match: Match) -> None:
        """A marker of thinking or content, if it counts here; else it is text. Models echo the header's last tag."""
        thinking = self.output.thinking
        if name in ("think_open", "think_close", "echo") and not thinking and not self._fresh:
            self.say(self.source.take(self.source.at + 1))
            return
        state = self._state
        self.source.take(match.end)
        if name == "think_open":
            self.output.start_thinking()
        elif thinking:
            self.output.stop_thinking()
            self._fresh = True
        else:
            self.output.marker()
        if self.log:
            self.log.note(state, name)

    def _attempt(self, hit: Hit) -> Reading[None]:
        """A call, if one follows; else the marker is text, and what came after it is read again."""
        source = self.source
        if hit.match is None or (hit.name in ("bare", "lead") and not self._fresh):
            self.say(source.take(source.at + 1))
            return
        source.begin()
        source.take(source.at if hit.name == "bare" else hit.match.end)
        reading = self._section() if hit.name == "section" else self._calls(hit.match)
        if (yield from reading):
            self._fresh = True
            return
        self._give_up()
        self.say(source.take(source.at + 1))

    def _give_up(self) -> None:
        if self.log:
            self.log.note(self._state, "no call after all: read again as text")
        self.source.rollback()
        if self.log:
            self.log.back()

    def _call(self, opened: Match) -> Reading[Call | None]:
        call = Call(self.source, self.output, self._marks, self.tools, opened)
        state = self._state
        if not (yield from READERS[self._marks.calls.syntax](call)):
            return None
        if self.log:
            self.log.note(state, "call")
        return call

    def _calls(self, opened: Match) -> Reading[bool]:
        """A call, and others that the model put between the same pair of tags."""
        call = yield from self._call(opened)
        started = call is not None
        while call is not None and not call.closed and self._marks.close and self._marks.calls.syntax == "json":
            self.source.begin()
            yield from self.source.skip_space()
            call = yield from self._call(opened)
            if call is None:
                self.source.rollback()
        return started

    def _section(self) -> Reading[bool]:
        """Calls up to what closes their section, or to what is none."""
        source, marks = self.source, self._marks
        n_calls, in_list = 0, False
        while True:
            yield from source.skip_space()
            if (yield from self._section_closed()):
                break
            char = yield from source.peek()
            if char == "[" and self._listed and not in_list:
                source.take(source.at + 1)
                in_list = True
                continue
            if char == "]" and in_list:
                source.take(source.at + 1)
                in_list = False
                if n_calls:
                    source.begin()
                continue
            if char == "," and in_list and n_calls:
                source.take(source.at + 1)
                yield from source.skip_space()
            opened = (yield from source.take_marker(marks.open)) if marks.open else Match(source.at, {})
            if opened is None or (yield from self._call(opened)) is None:
                if n_calls:
                    source.rollback()
                return n_calls > 0
            n_calls += 1
            source.begin()
        if n_calls:
            source.commit()
        return n_calls > 0

    def _section_closed(self) -> Reading[bool]:
        """The first tag that closes it counts, any further ones are ends of messages."""
        for index, tag in enumerate(self._marks.section_closing):
            if index:
                yield from self.source.skip_space()
            if (yield from self.source.take_marker(tag)) is None:
                return index > 0
        return bool(self._marks.section_closing)

    @property
    def _listed(self) -> bool:
        return self._marks.calls.array or self._marks.calls.syntax == "pythonic"
