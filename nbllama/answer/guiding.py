"""What steers a request's tokens: its stop sequences, and the grammar of the answer that it asks for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbllama.answer.wishes import thinking_budget
from nbllama.chat.enforcing.tools_guide import Wish, tools_guide
from nbllama.chat.format import ThinkTags
from nbllama.chat.guides import Guide, together
from nbllama.chat.stop_sequences import StopSequenceGuide
from nbllama.chat.structured import Thinking, json_answer
from nbllama.chat.thinking_budget import ThinkingBudget
from nbllama.engine.runtime import Vocabulary
from nbllama.wire.requests import MessagesRequest
from nbllama.wire.tools import NamedChoice

if TYPE_CHECKING:
    from nbllama.answer.model_catalog import LoadedModel
    from nbllama.chat.grammar import Grammars


class LazyGrammars:
    """A model's grammars, made when the first request needs one: 0.7 s and 57 MB for 152k tokens."""

    def __init__(self, vocabulary: Vocabulary, n_vocab: int) -> None:
        self._vocabulary = vocabulary
        self._n_vocab = n_vocab
        self._lock = threading.Lock()
        self._grammars: Grammars | None = None

    def get(self) -> Grammars:
        """Blocks while they are made. Any thread."""
        with self._lock:
            if self._grammars is None:
                from nbllama.chat.grammar import Grammars

                self._grammars = Grammars(self._vocabulary, self._n_vocab)
            return self._grammars


@dataclass(frozen=True, slots=True)
class Steering:
    """A request's guide, None where nothing steers, what its trace is to say of it, and the fields without effect."""

    guide: Guide | None
    notes: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def steering_of(request: MessagesRequest, model: LoadedModel, tail: str) -> Steering:
    """What steers a request's tokens. `tail` is what the prompt has begun of the answer.

    Blocks while a grammar is compiled. Raises SchemaRefused."""
    format, vocabulary = model.template.format, model.vocabulary
    thinking = _thinking(request, format.think, tail)
    guides: list[Guide] = []
    if format.think is not None and model.template.thinking_end:
        # First, because at its end nothing else counts.
        guides.append(
            ThinkingBudget(
                format,
                model.template.thinking_end,
                budget=thinking_budget(request),
                is_open=thinking == "open",
                tokenize=lambda text: vocabulary.tokenize(text, parse_control=True),
                piece=vocabulary.piece,
            )
        )
    answer = _answer(request, model, thinking, tail)
    guides += [answer.guide] if answer.guide else []
    if request.stop_sequences:
        guides.append(StopSequenceGuide(request.stop_sequences, vocabulary.piece))
    return Steering(together(guides), answer.notes, answer.ignored)


def _answer(request: MessagesRequest, model: LoadedModel, thinking: Thinking, tail: str) -> Steering:
    """By the tools and the schema of the answer."""
    choice, schema = request.tool_choice, request.output_schema
    tools = [] if choice is not None and choice.type == "none" else request.tools
    format = model.template.format
    if tools:
        wish = Wish(
            tools={tool.name: tool.input_schema for tool in tools},
            strict={tool.name for tool in tools if tool.strict},
            named=choice.name if isinstance(choice, NamedChoice) else None,
            forced=choice is not None and choice.type in ("any", "tool"),
            one=bool(choice and choice.disable_parallel_tool_use),
            answer_schema=schema,
        )
        guide, notes = tools_guide(model.grammars.get(), format, wish, thinking, tail)
        return Steering(guide, notes, _without_effect(request) if guide is None else [])
    if schema is None:
        return Steering(None)
    grammars = model.grammars.get()
    return Steering(grammars.guide(json_answer(schema, format.think, thinking, grammars.marker)))


def _without_effect(request: MessagesRequest) -> list[str]:
    """What cannot hold where nothing tells calls from text; one call alone is kept without a grammar."""
    forced = request.tool_choice is not None and request.tool_choice.type in ("any", "tool")
    strict = [f"tools.{index} (strict)" for index, tool in enumerate(request.tools) if tool.strict]
    return [*(["tool_choice"] if forced else []), *strict]


def _thinking(request: MessagesRequest, think: ThinkTags | None, tail: str) -> Thinking:
    if think is not None and (
        tail.rfind(think.open) > tail.rfind(think.close) if think.open else think.close not in tail
    ):
        return "open"
    return "possible" if request.thinking_enabled else "none"
