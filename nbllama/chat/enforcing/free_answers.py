"""Free text up to a call: from what opens the call on, nothing but a call that fits."""

from __future__ import annotations

from nbllama.chat.enforcing.call_rows import CallRows
from nbllama.chat.enforcing.calls import bare_json_call
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.free_messages import free_messages
from nbllama.chat.enforcing.rules import Rules, either, in_order
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
        """Calls that have a marker: a call is what follows it, wherever it stands."""
        whole = (self._calls.section_open or self._calls.open).strip().partition("{")[0]
        trigger = self._trigger(whole)
        before = self._up_to(trigger)
        if not trigger or before is None:
            return None
        rules, calls = self._rules, self._calls
        opening = calls.section_open or calls.open
        rest = opening.strip()[len(trigger) :] + opening[len(opening.rstrip()) :]
        called = self._rows.section(rest) if calls.section_open else self._rows.one_of(rest, calls.close.rstrip())
        one = f"{before} {rules.add(called)}"
        # The token alone is the marker, so that free text cannot hold it; else it may begin something else as well.
        free = rules.free(but=(trigger,), apart=(rules.leading_token(trigger),))
        if self._choice.one:
            return in_order(self._thoughts_first(), f"({one} | {free})")
        return in_order(self._thoughts_first(), f"({rules.add(one)})* {free}")

    def _up_to(self, trigger: str) -> str | None:
        """Free text and the trigger; None where that begins with text and holds tokens, which text may spell."""
        rules = self._rules
        if rules.leading_token(trigger) == trigger or not rules.has_tokens(trigger):
            return rules.free_until(trigger)
        first = rules.leading_token(trigger)
        return f"{rules.free(apart=(first,))} {rules.committing(trigger)}" if first else None

    def _thoughts_first(self) -> str:
        """In thinking that is open already a marker counts only where it ends the thinking."""
        think = self._format.think
        is_open = think is not None and self._thinking == "open" and think.close
        return self._rules.until(think.close.strip()) if think and is_open and not self._format.tools_end_think else ""

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
        rules, think = self._rules, self._format.think
        calls = either(
            rules.add(bare_json_call(rules, self._calls, name, schema)) for name, schema in self._choice.tools.items()
        )
        # A thinking tag that is a token begins thinking and nothing else: as free text it would let calls behind it go.
        free = rules.free((think.open.strip(),) if think else (), apart=(self._calls.lead,))
        if think is None or not think.close:
            return f"({calls} | {free})" if self._choice.one else f"({calls})* {free}"
        thoughts = rules.until(think.close.strip())
        opened = f"({rules.committing(think.open.strip())} {thoughts})?" if think.open.strip() else ""
        begun = thoughts if self._thinking == "open" or not opened else opened
        if self._choice.one:
            return f"{begun} ({calls} | {free})"
        return f"{begun} {in_order(f'({calls} {opened})*', free)}"
