"""Answers that are rows of messages: all free but the headers that name a tool, and the bodies behind them."""

from __future__ import annotations

import re

from nbllama.chat.enforcing.call_rows import CallRows
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.rules import ANY_SPACE, Rules, either, in_order, pattern
from nbllama.chat.format import Channels, Route

# All of a header must stay within what the parser takes for one.
_WORDS = "[a-zA-Z ]{0,16}"
_MAX_BEFORE = 24


def free_messages(channels: Channels, choice: Choice, rules: Rules, rows: CallRows) -> str | None:
    """The expression; None where the format has no calls, or nothing tells their headers from text."""
    route = next((one for one in channels.routes if one.kind in ("call", "calls")), None)
    return _FreeMessages(channels, route, choice, rules, rows).answer() if route else None


class _FreeMessages:
    """A header may stand where the answer begins, and behind what begins or ends a message.

    Lexemes decide: the one for a call's header ends where it is certain, and is tried before free text.
    """

    def __init__(self, channels: Channels, route: Route, choice: Choice, rules: Rules, rows: CallRows) -> None:
        self._channels = channels
        self._route = route
        self._choice = choice
        self._rules = rules
        self._rows = rows
        self._before = route.header.partition("{name}")[0]
        self._tokens = [mark for mark in self._marks if rules.leading_token(mark)]
        self._texts = [mark for mark in self._marks if not rules.leading_token(mark)]

    def answer(self) -> str | None:
        rules = self._rules
        if not self._before and rules.tokens_of(self._channels.header_end):
            return None
        call = rules.add(either(self._calls()))
        leading = tuple(rules.leading_token(mark) for mark in self._tokens)
        body = in_order(self._to_others(), rules.free(but=leading, apart=self._channels.openers))
        next_one = either(self._separators(leading))
        following = f"({body} {next_one})*"
        if not self._choice.one:
            following = f"({rules.add(f'{body} {next_one}')} | {call} {either(self._separators_behind_call(leading))})*"
        return f"{following} ({call} | {body})"

    @property
    def _marks(self) -> list[str]:
        """What a header may follow: the beginning of a message, or the end of the one before."""
        marks = [self._channels.start.strip(), *self._channels.ends]
        return [mark for mark in marks if not self._rules.ends_answer(mark)]

    def _separators(self, leading: tuple[str, ...]) -> list[str]:
        texts = "|".join(map(pattern, self._texts))
        lazy = [self._rules.add(f"/(.|\\n)*({texts})/", lazy=True)] if texts else []
        return [*map(self._rules.fixed, dict.fromkeys(leading)), *lazy]

    def _separators_behind_call(self, leading: tuple[str, ...]) -> list[str]:
        texts = "|".join(map(pattern, self._texts))
        lazy = [self._rules.add(f"/{ANY_SPACE}({texts})/", lazy=True)] if texts else []
        return [*map(self._rules.fixed, dict.fromkeys(leading)), *lazy]

    def _calls(self) -> list[str]:
        """Whole messages to tools."""
        rules = self._rules
        if not self._before:
            return [f"{self._named(name)} {self._rows.message_body(self._route, name)}" for name in self._choice.tools]
        targets = [
            f"{rules.fixed(name)} {self._header_rest()} {self._rows.message_body(self._route, name)}"
            for name in self._choice.tools
        ]
        return [f"{self._header_begun()} {rules.add(either(targets))}"]

    def _to_others(self) -> str:
        """The header of a message to somebody else than a tool, where it begins like that of one to a tool."""
        headers = [route.header for route in self._channels.routes if route.kind not in ("call", "calls")]
        names = [header[len(self._before) :] for header in headers if self._before and header.startswith(self._before)]
        known = [self._rules.fixed(name) for name in names if name and "{" not in name]
        return f"({self._header_begun()} {either(known)} {self._header_rest()})?" if known else ""

    def _named(self, name: str) -> str:
        """The header that is a name alone, up to its end; more of what begins it may stand before."""
        start = self._channels.start
        more = f"{pattern(start[0])}*" if len(set(start)) == 1 else ""
        end = pattern(self._channels.header_end)
        return self._rules.add(f"/{more}{ANY_SPACE}{pattern(name)}[ \\t\\r]{{0,4}}{end}/", lazy=True)

    def _header_begun(self) -> str:
        """From where a header may stand to before the tool's name."""
        rules, begun = self._rules, self._start_rest()
        direct = rules.add(f"/{begun}{pattern(self._before)}/", lazy=True)
        ways = [direct]
        for opener in self._channels.openers:
            if opener == self._channels.header_end or self._before.startswith(opener):
                continue
            words = f"(.|\\n){{0,{_MAX_BEFORE}}}"
            if rules.leading_token(opener) == opener:
                behind = rules.add(f"/{words}{pattern(self._before)}/", lazy=True)
                ways.append(f"/{begun}/ {rules.fixed(opener)} {behind}")
            else:
                end = pattern(self._channels.header_end)
                text = f"(/{begun}{pattern(opener)}{words}{pattern(self._before)}/ & ~/(.|\\n)*{end}(.|\\n)*/)"
                ways.append(rules.add(text, lazy=True))
        return either(ways)

    def _start_rest(self) -> str:
        """Of the beginning of a message what its token has left, then space."""
        start = self._channels.start.strip()
        rest = start[len(self._rules.leading_token(start)) :] if self._rules.leading_token(start) else ""
        return f"({pattern(rest)})?{ANY_SPACE}" if rest else ANY_SPACE

    def _header_rest(self) -> str:
        """Behind the name, in whatever way the model spells it."""
        rules, end = self._rules, self._channels.header_end
        marks = [*self._channels.openers, *re.findall(r"<[^<>]+>", self._route.written)]
        known = [mark for mark in dict.fromkeys(marks) if mark[0] == "<" and mark != end]
        if rules.leading_token(end) != end:
            more = f"(({'|'.join(map(pattern, known))}){_WORDS}){{0,2}}" if known else ""
            return rules.add(f"/([ ]{_WORDS})?{more}{pattern(end)}/", lazy=True)
        tokens = [rules.fixed(mark) for mark in known if rules.leading_token(mark) == mark]
        more = f"({rules.add(f'{either(tokens)} /{_WORDS}/')}){{0,2}}" if tokens else ""
        return in_order(f"/([ ]{_WORDS})?/", more, rules.fixed(end))
