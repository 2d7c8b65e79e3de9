"""One compiled template: messages in the template's own shape → text. The only place that runs template code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbllama.chat.budget import Budget, spending
from nbllama.chat.environment import BoundedEnvironment, to_json
from nbllama.chat.errors import ChatError

# The longest of the 70 templates that were looked at has 16,738.
MAX_SOURCE_CHARS = 100_000


class Renderer:
    """Compiles once, renders often, from any thread. Raises ChatError, TemplateRefused where the template says no."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise ChatError("the chat template is too long")
        self.source, self.bos = source, bos
        self._constants = {"bos_token": bos, "eos_token": eos}
        # firefunction-v2 wants its tools as text under this name, and the date.
        self._wants_functions = "functions" in source
        try:
            with spending(Budget(len(source))):
                self._template = BoundedEnvironment().from_string(source)
        except ChatError:
            raise
        except Exception as error:  # also what Python's compiler says of thirty nested loops
            raise ChatError(f"the chat template cannot be compiled: {_words(error)}") from error

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        thinking: bool = False,
        generation: bool = True,
        input_chars: int = 10_000,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text. The template may change `messages` and `tools`: pass fresh ones. `variables` are further ones."""
        known: dict[str, Any] = {**(variables or {}), "enable_thinking": thinking, "thinking": thinking}
        return self._rendered(known | {"messages": messages}, tools, generation, input_chars)

    def _rendered(
        self, variables: dict[str, Any], tools: list[dict[str, Any]] | None, generation: bool, input_chars: int
    ) -> str:
        if tools:
            variables["tools"] = tools
        if generation:
            variables["add_generation_prompt"] = True
        try:
            with spending(Budget(input_chars)):
                if self._wants_functions:
                    variables["functions"] = to_json([tool["function"] for tool in tools or []])
                    variables["datetime"] = "now"
                return self._template.render(self._constants | variables)
        except ChatError:
            raise
        except Exception as error:  # a template is somebody else's program: it may raise anything
            raise ChatError(f"the chat template failed: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
