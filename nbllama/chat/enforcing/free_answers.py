"""Free text up to a call: from what opens the call on, nothing but a call that fits."""

from __future__ import annotations

import re

from nbllama.chat.enforcing.call_rows import CallRows
from nbllama.chat.enforcing.calls import bare_json_call
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.free_messages import free_messages
from nbllama.chat.enforcing.rules import ANY_SPACE, Rules, either, in_order
from nbllama.chat.format import Calls, Format
from nbllama.chat.structured import Thinking


def free_answer(format: Format, choice: Choice, thinking: Thinking, rules: Rules) -> str | None:
    """The expression; None where nothing tells calls from text."""
    rows = CallRows(format, choice, rules)
    if format.channels:
        return free_messages(format.channels, choice, rules, rows)
    if format.calls is None:
        return None
    free = _FreeAnswer(format, format.calls, choice, thinking, rules, rows)
    if not format.calls.section_open and not format.calls.open:
        return free.bare() if format.calls.syntax == "json" and not format.calls.array else None
    return free.marked()


class _FreeAnswer:
    def __init__(
        self, format: Format, calls: Calls, choice: Choice, thinking: Thinking, rules: Rules, rows: CallRows
    ) -> None:
        self._format = format
        self._calls = calls
        self._choice = choice
        self._thinking = thinking
        self._rules = rules
        self._rows = rows

    def marked(self) -> str | None:
        """Calls that have a marker: a call is what follows it, wherever it stands in text."""
        calls = self._calls
        opening = calls.section_open or calls.open
        trigger = self._trigger(opening.strip().partition("{")[0])
        if not trigger:
            return None
        rest = opening.strip()[len(trigger) :] + opening[len(opening.rstrip()) :]
        called = self._rows.section(rest) if calls.section_open else self._rows.one_of(rest, calls.close.rstrip())
        marks = [trigger, *self._inner_marks()]
        free = self._free(marks)
        calling = [self._behind(free, trigger, called), *(self._inner(free, mark) for mark in marks[1:])]
        # A text that may open a call, with no tool's name behind it.
        skipped = [f"{free} {self._rules.until(mark)}" for mark in marks[1:] if not self._rules.tokens_of(mark)]
        return self._arranged(either(map(self._rules.add, calling)), free, skipped)

    def _arranged(self, call: str, free: str, skipped: list[str]) -> str:
        """Thinking, free text and calls as they may follow one another; in thinking nothing is a marker."""
        thoughts, opened = self._thoughts()
        text = f"({self._rules.add(either(skipped))})*" if skipped else ""
        if self._choice.one:
            return in_order(thoughts or opened, text, f"({call} | {free})")
        more = f"({in_order(opened, text, call)})*"
        return in_order(thoughts, more, opened, text, free)

    def _thoughts(self) -> tuple[str, str]:
        """What is left of thinking that is open already, and thinking that the model may open; empty for none."""
        think, rules = self._format.think, self._rules
        if think is None or not think.close or self._format.tools_end_think:
            return "", ""
        opens, closes = think.open.strip(), think.close.strip()
        # Tokens of calls may stand in it as well.
        thoughts = f"{rules.free(but=(closes,))} {rules.until(closes)}"
        space = f"/{ANY_SPACE}/" if rules.leading_token(opens) else ""
        opened = f"({in_order(space, rules.committing(opens), thoughts)})?" if opens else ""
        return thoughts if self._thinking == "open" else "", opened

    def _free(self, marks: list[str], *, alone: bool = True) -> str:
        """Free text. A token that is a marker all by itself cannot stand in it, one that begins several may."""
        think, rules = self._format.think, self._rules
        opens = think.open.strip() if think and self._thoughts()[1] else ""
        never = tuple(mark for mark in marks[:1] if alone and rules.leading_token(mark) == mark)
        begins = {rules.leading_token(rules.from_token(mark)) for mark in (*marks, opens)} - {*never, opens}
        return rules.free(never, tuple(sorted(begins)), (opens,))

    def _behind(self, free: str, mark: str, called: str) -> str:
        """Free text, the marker, and what is called."""
        rules = self._rules
        if rules.tokens_of(mark):
            return f"{free} {rules.committing(rules.from_token(mark))} {called}"
        return f"{free} {rules.until(mark)} {called}"

    def _inner_marks(self) -> list[str]:
        """Markers inside the first one, which models forget: that of a call in a section, the last tag of several."""
        opening = self._calls.open.strip()
        tags = opening.split()
        found = [opening] if self._calls.section_open and not self._calls.array else []
        found += [tags[-1]] if len(tags) > 1 and tags[-1][0] in "<[" else []
        return [self._rules.from_token(mark) for mark in found if mark and "{" not in mark]

    def _inner(self, free: str, mark: str) -> str:
        """A call without what should stand before its marker: one where the name of a tool follows."""
        rules, close = self._rules, re.match(r"\s*\S+", self._calls.close)
        first = rules.leading_token(mark)
        left = mark[len(first) :] if first else ""
        calls = either(in_order(rules.committing(left + begun), rest) for begun, rest in self._rows.calls_begun())
        before = f"{free} {rules.fixed(first)}" if first else f"{free} {rules.until(mark)}"
        return in_order(before, rules.add(calls), rules.fixed(close.group()) if close else "")

    def _trigger(self, whole: str) -> str:
        """The shortest beginning of what opens calls that nothing else begins with: a token, a tag, or all of it."""
        if not whole:
            return ""
        format = self._format
        first = whole.split()[0]
        trigger = self._rules.leading_token(whole) or (first if first.endswith((">", "]")) else whole)
        others = [*format.swallow, *(tags.open for tags in (format.think, format.content) if tags and tags.open)]
        return whole if any(other.strip().startswith(trigger) for other in others) else trigger

    def bare(self) -> str:
        """Calls without a marker: JSON that names a tool where an answer, or what follows a call, begins."""
        rules = self._rules
        calls = either(
            rules.add(bare_json_call(rules, self._calls, name, schema)) for name, schema in self._choice.tools.items()
        )
        return self._arranged(calls, self._free([self._calls.lead], alone=False), [])
