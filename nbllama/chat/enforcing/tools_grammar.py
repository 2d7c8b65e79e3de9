"""What a model may write when it has tools: thinking, then calls that fit; or free text up to a call's marker."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbllama.chat.enforcing.call_rows import CallRows
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.free_answers import free_answer
from nbllama.chat.enforcing.rules import SPACE, ControlIds, Rules, either, in_order
from nbllama.chat.format import Calls, Format
from nbllama.chat.structured import Thinking

UNCONSTRAINED = "nothing tells the calls of this model's format from its text: they are not held to the tools' schemas"


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
            return Plan(self._rules.lark(in_order(self._before(), self._answer())))
        body = free_answer(self._format, self._choice, self._thinking, self._rules)
        return Plan(None, [UNCONSTRAINED]) if body is None else Plan(self._rules.lark(body))

    def _answer(self) -> str:
        rows = CallRows(self._format, self._choice, self._rules)
        calls = rows.routed() if self._format.channels else rows.all_calls()
        if self._choice.value is None:
            return calls
        value = in_order(self._text_open(), self._rules.json(self._choice.value))
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
