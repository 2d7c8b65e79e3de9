"""How a template ends thinking: the marker with the space around it, as a model was taught it."""

from __future__ import annotations

from nbllama.chat.capabilities import ANSWER, THOUGHT, answer_message, user_message
from nbllama.chat.errors import ChatError
from nbllama.chat.format import Format
from nbllama.chat.renderer import Renderer

_SPACE = " \t\r\n"


def thinking_end(renderer: Renderer, format: Format) -> str:
    """What leads a model out of its thinking; empty for a format without thinking."""
    think = format.think
    if think is None or not think.close.strip():
        return ""
    close = think.close.strip()
    return _seen(renderer, close) or f"\n{close}\n" + ("" if format.channels else "\n")


def _seen(renderer: Renderer, close: str) -> str:
    """As it stands between a thought and an answer; empty where the template shows none."""
    try:
        text = renderer.render([user_message(), answer_message(THOUGHT)], thinking=True, generation=False)
    except ChatError:
        return ""
    between = text.partition(THOUGHT)[2].partition(ANSWER)[0]
    before, found, after = between.partition(close)
    if not found or before.strip(_SPACE):
        return ""
    return before + close + after[: len(after) - len(after.lstrip(_SPACE))]
