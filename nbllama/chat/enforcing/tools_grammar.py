"""What a model may write when it has tools: thinking, then calls that fit; or free text up to a call's marker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbllama.chat.enforcing.calls import BODIES
from nbllama.chat.enforcing.rules import SPACE, ControlIds, Rules, either
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.format import Calls, Channels, Format, Route
from nbllama.chat.structured import Thinking

UNCONSTRAINED = "nothing tells the calls of this model's format from its text: they are not held to the tools' schemas"


@dataclass(frozen=True, slots=True)
class Choice:
    """`forced`: an answer is calls (of `tools` alone). `one`: of them there is one. `value`: a JSON schema, prepared,
    of what an answer that is no call has to be."""

    tools: Mapping[str, dict[str, Any]]
    forced: bool = False
    one: bool = False
    value: dict[str, Any] | None = None


@dataclass(slots=True)
class Plan:
    """A grammar, or None where nothing is constrained, and what the trace is to say of it."""

    lark: str | None
    notes: list[str] = field(default_factory=list)


def tools_grammar(format: Format, choice: Choice, thinking: Thinking, tail: str, control: ControlIds) -> Plan:
    """The grammar of an answer behind `tail`. Raises SchemaRefused, naming what cannot be followed."""
    return _Grammar(format, choice, thinking, tail, control).plan()


class _Grammar:
    def __init__(self, format: Format, choice: Choice, thinking: Thinking, tail: str, control: ControlIds) -> None:
        self._format = format
        self._choice = choice
        self._thinking = thinking
        self._tail = tail
        self._calls = format.calls or Calls()
        self._rules = Rules(control, compact=self._calls.compact)

    def plan(self) -> Plan:
        if self._format.calls is None and self._format.channels is None:
            return Plan(None, [UNCONSTRAINED])
        if self._choice.forced or self._choice.value is not None:
            return Plan(self._rules.lark(self._joined(self._before(), self._answer())))
        body = self._free_until_calls()
        return Plan(None, [UNCONSTRAINED]) if body is None else Plan(self._rules.lark(body))

    def _answer(self) -> str:
        calls = self._routed() if self._format.channels else self._all_calls()
        if self._choice.value is None:
            return calls
        value = self._joined(self._text_open(), self._rules.json(self._choice.value))
        return calls if self._choice.forced else either((value, calls))

    def _text_open(self) -> str:
        content = self._format.content
        if not self._format.channels or content is None:
            return ""
        return self._rules.fixed(content.open)

    def _before(self) -> str:
        """Thinking, as far as there may be any, and what has to stand between it and a call."""
        think, rules, content = self._format.think, self._rules, self._format.content
        if content and content.close and self._tail.strip().endswith(content.open.strip()):
            return rules.fixed(content.close)
        if think is None or self._thinking == "none" or not think.close:
            return ""
        thoughts = rules.until(think.close.strip())
        after = self._after_thoughts(think.close)
        if self._thinking == "open" or not think.open.strip():
            return f"{thoughts} {after}"
        return f"({rules.fixed(think.open)} {thoughts} {after})?"

    def _after_thoughts(self, close: str) -> str:
        if self._format.channels:
            return self._rules.fixed(self._format.channels.start)
        if self._format.header.startswith(close):
            return self._rules.fixed(self._format.header.removeprefix(close))
        return SPACE

    def _all_calls(self) -> str:
        calls, rules = self._calls, self._rules
        if calls.section_open:
            return self._section(calls.section_open.lstrip())
        one = self._one_of(calls.open.lstrip(), calls.close.rstrip())
        if self._choice.one or not calls.open:
            return one
        space = SPACE if calls.close.endswith(">\n") or calls.open.startswith("\n") or calls.syntax == "json" else ""
        return f"{one} ({self._joined(space, one)})*" if rules else one

    def _section(self, opening: str) -> str:
        """All of a section behind what `opening` has left of its marker."""
        calls, rules = self._calls, self._rules
        listed = calls.array or calls.syntax == "pythonic"
        close = calls.close.rstrip() if not listed else ""
        one = rules.add(self._one_of(calls.open if not listed else "", close))
        gap = rules.fixed(", ") if listed else self._gap()
        many = one if self._choice.one else f"{one} ({self._joined(gap, one)})*"
        bracket = ("[", "]") if listed else ("", "")
        return self._joined(
            rules.fixed(opening + bracket[0]), many, rules.fixed(bracket[1] + calls.section_close.rstrip())
        )

    def _gap(self) -> str:
        calls = self._calls
        if not calls.open and not calls.close:
            return self._rules.fixed("\n")
        space = calls.close[len(calls.close.rstrip()) :]
        return self._rules.fixed(space) if space else ""

    def _one_of(self, opening: str, close: str) -> str:
        body = BODIES[self._calls.syntax]
        options = [
            self._rules.add(body(self._rules, self._calls, name, schema, opening, f"tools.{name}.input_schema"))
            for name, schema in self._choice.tools.items()
        ]
        return self._joined(either(options), self._rules.fixed(close))

    def _routed(self, opening: str = "") -> str:
        """A message to a tool, and further ones."""
        channels = self._format.channels
        if channels is None:
            raise SchemaRefused("the format has no channels")
        route = next((one for one in channels.routes if one.kind in ("call", "calls")), None)
        if route is None:
            raise SchemaRefused("this model's format has no way to call a tool")
        one = self._rules.add(either(self._message(channels, route, name) for name in self._choice.tools))
        ends_turn = any(end in channels.ends for end in ("<|call|>",)) or route.kind == "calls"
        if self._choice.one or ends_turn:
            return one
        return f"{one} ({self._rules.fixed(channels.start)} {one})*"

    def _message(self, channels: Channels, route: Route, name: str) -> str:
        header = (route.written or route.header).replace("{name}", name) + channels.header_end
        schema = self._choice.tools[name]
        if route.kind == "call":
            return f"{self._rules.fixed(header)} {self._rules.json(schema)}"
        alone = _Grammar(self._format, Choice({name: schema}, one=self._choice.one), "none", "", ControlIds())
        alone._rules = self._rules
        return f"{self._rules.fixed(header)} {alone._all_calls()}"

    def _free_until_calls(self) -> str | None:
        """Free text, constrained from the marker on; None where the format has none that tells."""
        trigger = None if self._format.channels else self._trigger()
        if trigger is None:
            return None
        rules, calls = self._rules, self._calls
        opening = calls.section_open or calls.open
        rest = opening.strip()[len(trigger) :] + opening[len(opening.rstrip()) :]
        called = self._section(rest) if calls.section_open else self._one_of(rest, calls.close.rstrip())
        one = f"{rules.free_until(trigger)} {rules.add(called)}"
        if self._choice.one:
            return self._joined(self._thoughts_first(), f"({one} | {rules.free()})")
        return self._joined(self._thoughts_first(), f"({rules.add(one)})* {rules.free()}")

    def _thoughts_first(self) -> str:
        """In thinking that is open already a marker counts only where it ends the thinking."""
        think = self._format.think
        is_open = think is not None and self._thinking == "open" and think.close
        return self._rules.until(think.close.strip()) if think and is_open and not self._format.tools_end_think else ""

    def _trigger(self) -> str | None:
        """The shortest beginning of what opens calls that nothing else begins with: a token, a tag, or all of it."""
        calls, format = self._calls, self._format
        whole = (calls.section_open or calls.open).strip().partition("{")[0]
        if not whole:
            return None
        first = whole.split()[0]
        trigger = self._rules.leading_token(whole) or (first if first.endswith((">", "]")) else whole)
        others = [*format.swallow, *(tags.open for tags in (format.think, format.content) if tags and tags.open)]
        if any(other.strip().startswith(trigger) for other in others):
            trigger = whole
        is_token = self._rules.leading_token(trigger) == trigger
        return trigger if is_token or not self._rules.has_tokens(trigger) else None

    @staticmethod
    def _joined(*parts: str) -> str:
        return " ".join(part for part in parts if part)
