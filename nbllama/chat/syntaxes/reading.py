"""What every reader of calls needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbllama.chat.format import Calls
from nbllama.chat.markers import Hit, Marker, Markers, Match
from nbllama.chat.output import Output
from nbllama.chat.source import Reading, Source

MAX_NAME = 200


@dataclass(slots=True)
class Call:
    """One attempt to read a call. `tools` maps names to JSON schemas; `opened` matched what opens the call.

    `closed` tells whether the model wrote what closes it.
    """

    source: Source
    output: Output
    marks: Marks
    tools: Mapping[str, Any]
    opened: Match
    closed: bool = False

    @property
    def id(self) -> str:
        """The id in the opening marker, if it has one."""
        return self.opened.slots.get("id", "").strip()

    def schema(self, name: str, argument: str) -> Any:
        """The schema of a tool's argument; None if it does not have it."""
        schema = self.tools.get(name)
        properties = schema.get("properties") if isinstance(schema, dict) else None
        return properties.get(argument) if isinstance(properties, dict) else None

    def root(self, name: str) -> Any:
        """The schema that `$ref`s refer to."""
        return self.tools.get(name)

    def name_until(self, ends: Markers) -> Reading[tuple[str, str, Hit] | None]:
        """(name, text before the end, end) of a known tool; nothing is consumed."""
        found = yield from self.source.short_until(ends, self._may_be_name)
        if found is None:
            return None
        name = found[0].strip()
        return (name, *found) if name in self.tools else None

    def _may_be_name(self, text: str) -> bool:
        begun = text.strip()
        return len(text) <= MAX_NAME and any(name.startswith(begun) for name in self.tools)

    def end(self) -> Reading[None]:
        """The call is over: consumes what closes it, or as much of that as the model wrote."""
        self.output.stop_call()
        for tag in self.marks.closing:
            yield from self.source.skip_space()
            if (yield from self.source.take_marker(tag)) is not None:
                self.closed = True

    def broken(self) -> Reading[None]:
        """What is no argument goes into the arguments as it is, up to what closes the call or its section."""
        if self.marks.ends:
            yield from self.source.until(self.marks.ends, self.output.arguments)
        yield from self.end()


class Marks:
    """The markers of `Calls`, made once."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.section_open = Marker(calls.section_open)
        self.section_close = Marker(calls.section_close)
        self.open = Marker(calls.open)
        self.close = Marker(calls.close)
        self.closing = self.close.tags
        self.section_closing = self.section_close.tags
        self.section_first = self.section_closing[0] if self.section_closing else self.section_close
        self.middle = Marker(calls.middle)
        self.name_close = Marker(calls.name_close)
        self.key_open = Marker(calls.key_open)
        self.value_open = Marker(calls.value_open)
        self.value_close = Marker(calls.value_close)
        self.inner = self._inner()
        closing = {f"close{index}": tag for index, tag in enumerate(self.closing)}
        self.ends = Markers(closing | {"section_close": self.section_first})
        self.name_ends = Markers({"name_close": self.name_close, "key_open": self.key_open} | closing)
        self.between = {"key_open": self.key_open} | closing | {"section_close": self.section_first}
        self.triggers = {"section": self.section_open, "call": self.open, "inner": self.inner}

    @property
    def bare(self) -> bool:
        """Whether nothing stands before a call."""
        return not self.section_open and not self.open

    def _inner(self) -> Marker:
        """The last of several tags that open a call: models forget the outer one."""
        tags = self.open.tags
        return tags[-1] if len(tags) > 1 and tags[-1].first in ("<", "[") else Marker("")


Reader = Callable[[Call], Reading[bool]]
"""Reads one call from behind what opens it, to behind what closes it. False: it announced none."""
