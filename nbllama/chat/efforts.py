"""What a template offers to say how much to think: found out by rendering, never by its name."""

from __future__ import annotations

import threading
from typing import Any

from nbllama.chat.capabilities import user_message
from nbllama.chat.errors import ChatError
from nbllama.chat.renderer import Renderer

_WORD = "reasoning_effort"
# The wire's words, and what stands for them where a template does not know them, best first.
_WORDS = {
    "low": ("low",),
    "medium": ("medium", "low"),
    "high": ("high",),
    "xhigh": ("xhigh", "high"),
    "max": ("max", "high"),
}
# The words of gpt-oss, whose template takes any.
_TAUGHT = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_ANY_WORD = "qzx"
_OFF = ("no_think", "none")


class Efforts:
    """One template's; each answer is found once."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._known: dict[str | None, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def variables(self, effort: str | None, *, thinking: bool) -> dict[str, Any]:
        """What to render with besides; nothing where the template has no word for it."""
        if not thinking or _WORD not in self._renderer.source:
            return {}
        with self._lock:
            if effort not in self._known:
                self._known[effort] = self._found(effort)
            return self._known[effort]

    def _found(self, effort: str | None) -> dict[str, Any]:
        plain = self._rendered({})
        if effort is None:
            # Some do not think unless they are told how much.
            is_off = plain == self._rendered({}, thinking=False) and plain in map(self._told, _OFF)
            return {_WORD: "high"} if is_off and self._told("high") not in (None, plain) else {}
        if _ANY_WORD in (self._told(_ANY_WORD) or ""):
            # It writes down whatever it is told: that says nothing of what the model was taught.
            return {_WORD: _TAUGHT[effort]} if effort in _TAUGHT else {}
        words = [word for word in _WORDS.get(effort, ()) if self._told(word) is not None]
        return {_WORD: next((word for word in words if self._told(word) != plain), words[0])} if words else {}

    def _told(self, word: str) -> str | None:
        return self._rendered({_WORD: word})

    def _rendered(self, variables: dict[str, Any], *, thinking: bool = True) -> str | None:
        try:
            return self._renderer.render([user_message()], thinking=thinking, variables=variables)
        except ChatError:
            return None
