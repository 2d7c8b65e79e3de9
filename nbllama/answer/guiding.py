"""What steers a request's tokens: its stop sequences, and the grammar of the answer that it asks for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbllama.chat.format import ThinkTags
from nbllama.chat.guides import Guide, together
from nbllama.chat.stop_sequences import StopSequenceGuide
from nbllama.chat.structured import Thinking, json_answer
from nbllama.engine.runtime import Vocabulary
from nbllama.wire.requests import MessagesRequest

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


def guide_of(request: MessagesRequest, model: LoadedModel, tail: str) -> Guide | None:
    """The request's guide; None where nothing steers. `tail` is what the prompt has begun of the answer.

    Blocks while a grammar is compiled. Raises SchemaRefused."""
    guides: list[Guide] = []
    if request.output_schema is not None:
        grammars, think = model.grammars.get(), model.template.format.think
        lark = json_answer(request.output_schema, think, _thinking(request, think, tail), grammars.marker)
        guides.append(grammars.guide(lark))
    if request.stop_sequences:
        guides.append(StopSequenceGuide(request.stop_sequences, model.vocabulary.piece))
    return together(guides)


def _thinking(request: MessagesRequest, think: ThinkTags | None, tail: str) -> Thinking:
    if think is not None and tail.rfind(think.open) > tail.rfind(think.close):
        return "open"
    return "possible" if request.thinking_enabled else "none"
