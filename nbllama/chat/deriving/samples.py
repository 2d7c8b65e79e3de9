"""What a template makes of answers whose every value is a sentinel."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

from nbllama.chat.capabilities import ANSWER, THOUGHT, TOOL, TOOL_2, USER, Capabilities
from nbllama.chat.deriving.cutting import TAG, common_suffix, outside_tag
from nbllama.chat.errors import ChatError
from nbllama.chat.renderer import Renderer

KEY_A, KEY_B = "zq_arg_a", "zq_arg_b"
VALUE_A, VALUE_B, VALUE_C = "ZQvalueA", "ZQvalueB", "ZQvalueC"
ID_1, ID_2 = "zqid00001", "zqid00002"
SCHEMA = {
    "type": "object",
    "properties": {key: {"type": "string", "description": "d"} for key in (KEY_A, KEY_B)},
    "required": [],
}
FIRST: tuple[str, dict[str, Any], str] = (TOOL, {KEY_A: VALUE_A, KEY_B: VALUE_B}, ID_1)
SECOND: tuple[str, dict[str, Any], str] = (TOOL_2, {KEY_A: VALUE_C}, ID_2)
TYPED: tuple[str, dict[str, Any], str] = (TOOL, {KEY_A: 7, KEY_B: [1, "x"]}, ID_1)

SampleCall = tuple[str, dict[str, Any], str]
HARD: SampleCall = (TOOL, {KEY_A: 'two\nlines, "quotes", <tags> & ünïcode'}, ID_1)


class Samples:
    """Renders one answer after the user's sentinel, with two tools; each text is what follows that sentinel."""

    def __init__(self, renderer: Renderer, can: Capabilities) -> None:
        self.source = renderer.source
        self._renderer = renderer
        self._can = can
        self._prompts: dict[bool, str] = {}
        self._appended = self._find_appended()

    def prompt(self, *, thinking: bool) -> str:
        """What the template writes before the model's answer."""
        # Every check asks for it: 14 of 49 renderings, 1.4 ms each with the largest template.
        if thinking not in self._prompts:
            self._prompts[thinking] = self._rendered([], thinking=thinking, generation=True) or ""
        return self._prompts[thinking]

    def text(self, content: str = ANSWER, *, thought: bool = False, thinking: bool = True) -> str | None:
        """An answer of text. None if the template refuses or drops it."""
        wanted = [content, *([THOUGHT] if thought else [])]
        text = self._answered(self._answer(content, thought=thought), *wanted, thinking=thinking)
        if text is None and thought:
            parts = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": content}]
            text = self._answered({"role": "assistant", "content": parts}, *wanted, thinking=thinking)
            if text is not None and re.search("""['"]type['"]""", text):
                # Printed as data: the template does not know such lists.
                return None
        return text

    def calls(self, *calls: SampleCall, content: str = "", thought: bool = False, thinking: bool = True) -> str | None:
        """An answer of calls, with `content` before them. None if the template refuses or drops any."""
        answer = self._answer(content, thought=thought)
        answer["content"] = content or self._can.content_beside_calls
        answer["tool_calls"] = [self._call(*call) for call in calls]
        values = [value for _, arguments, _ in calls for value in arguments.values()]
        # Others are escaped, in one way or another.
        plain = [value for value in values if isinstance(value, str) and value.isalnum()]
        names = [name for name, _, _ in calls]
        wanted = [*names, *plain, *([content] if content else []), *([THOUGHT] if thought else [])]
        return self._answered(answer, *wanted, thinking=thinking)

    def _answer(self, content: str, *, thought: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        return message | (dict.fromkeys(("reasoning_content", "reasoning", "thinking"), THOUGHT) if thought else {})

    def _call(self, name: str, arguments: dict[str, Any], id: str) -> dict[str, Any]:
        shaped: Any = deepcopy(arguments)
        if self._can.arguments_as_text:
            shaped = json.dumps(shaped, ensure_ascii=False)
        return {"id": id, "type": "function", "function": {"name": name, "arguments": shaped}}

    def _find_appended(self) -> str:
        """What the template puts behind any conversation: the next answer's header, instructions."""
        text = self._rendered([]) or ""
        turn_end = TAG.match(text)
        appended = text[turn_end.end() :] if turn_end else ""
        return appended if TAG.match(appended.lstrip()) else ""

    def _answered(self, answer: dict[str, Any], *wanted: str, thinking: bool) -> str | None:
        """The answer's text, if it holds all that is wanted."""
        text = self._rendered([answer], thinking=thinking)
        if text is None or not all(sentinel in text for sentinel in wanted):
            return None
        appended = common_suffix(text, self._appended)
        return text[: outside_tag(text, len(text) - appended, after=True)]

    def _rendered(
        self, answers: list[dict[str, Any]], *, thinking: bool = True, generation: bool = False
    ) -> str | None:
        """What follows the user's text; None if the template refuses."""
        tools = [
            {"type": "function", "function": {"name": name, "description": "d", "parameters": deepcopy(SCHEMA)}}
            for name in (TOOL, TOOL_2)
        ]
        messages = [{"role": "user", "content": USER}, *answers]
        try:
            text = self._renderer.render(messages, tools, thinking=thinking, generation=generation)
        except ChatError:
            return None
        # Some templates repeat the user's text; what follows it last is the answer.
        start = text.rfind(USER)
        return text[start + len(USER) :] if start >= 0 else ""
