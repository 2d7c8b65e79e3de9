"""Calls one after another, with all that stands around them: sections, lists, messages of their own."""

from __future__ import annotations

from nbllama.chat.enforcing.calls import BODIES
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.rules import SPACE, Rules, either, in_order
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.format import Calls, Channels, Format, Route


class CallRows:
    """Writes what a format's calls are, into `rules`. Raises SchemaRefused where a schema cannot be followed."""

    def __init__(self, format: Format, choice: Choice, rules: Rules) -> None:
        self._format = format
        self._choice = choice
        self._rules = rules
        self._calls = format.calls or Calls()

    def all_calls(self) -> str:
        """An answer that is calls; or one call."""
        calls, rules = self._calls, self._rules
        if calls.section_open:
            return self.section(calls.section_open.lstrip())
        one = self.one_of(calls.open.lstrip(), calls.close.rstrip())
        if self._choice.one or not calls.open:
            return one
        space = SPACE if calls.close.endswith(">\n") or calls.open.startswith("\n") or calls.syntax == "json" else ""
        return f"{one} ({in_order(space, one)})*" if rules else one

    def section(self, opening: str) -> str:
        """All of a section behind what `opening` has left of its marker."""
        calls, rules = self._calls, self._rules
        listed = calls.array or calls.syntax == "pythonic"
        close = calls.close.rstrip() if not listed else ""
        one = rules.add(self.one_of(calls.open if not listed else "", close))
        gap = rules.fixed(", ") if listed else self._gap()
        many = one if self._choice.one else f"{one} ({in_order(gap, one)})*"
        bracket = ("[", "]") if listed else ("", "")
        return in_order(rules.fixed(opening + bracket[0]), many, rules.fixed(bracket[1] + calls.section_close.rstrip()))

    def _gap(self) -> str:
        calls = self._calls
        if not calls.open and not calls.close:
            return self._rules.fixed("\n")
        space = calls.close[len(calls.close.rstrip()) :]
        return self._rules.fixed(space) if space else ""

    def one_of(self, opening: str, close: str) -> str:
        """A call of any of the tools, behind `opening`."""
        options = [
            self._rules.add(in_order(self._rules.fixed(opening + begun), rest)) for begun, rest in self.calls_begun()
        ]
        return in_order(either(options), self._rules.fixed(close))

    def calls_begun(self) -> list[tuple[str, str]]:
        """For each tool the text that a call begins with behind its marker, and the rest up to what closes it."""
        body = BODIES[self._calls.syntax]
        return [
            body(self._rules, self._calls, name, schema, f"tools.{name}.input_schema")
            for name, schema in self._choice.tools.items()
        ]

    def routed(self) -> str:
        """A message to a tool, and further ones."""
        channels = self._format.channels
        if channels is None:
            raise SchemaRefused("the format has no channels")
        route = next((one for one in channels.routes if one.kind in ("call", "calls")), None)
        if route is None:
            raise SchemaRefused("this model's format has no way to call a tool")
        one = self._rules.add(either(self.message(channels, route, name) for name in self._choice.tools))
        ends_turn = any(end in channels.ends for end in ("<|call|>",)) or route.kind == "calls"
        if self._choice.one or ends_turn:
            return one
        return f"{one} ({self._rules.fixed(channels.start)} {one})*"

    def message(self, channels: Channels, route: Route, name: str) -> str:
        """A message to a tool, from its header on."""
        header = (route.written or route.header).replace("{name}", name) + channels.header_end
        return f"{self._rules.fixed(header)} {self.message_body(route, name)}"

    def message_body(self, route: Route, name: str) -> str:
        """What stands in a message to a tool: its arguments, or calls of it."""
        schema = self._choice.tools[name]
        if route.kind == "call":
            return self._rules.json(schema)
        return CallRows(self._format, Choice({name: schema}, one=self._choice.one), self._rules).all_calls()
