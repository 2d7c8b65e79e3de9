"""A request's exact prompt, as text and as ids."""

from __future__ import annotations

from nbllama.answer.model_catalog import LoadedModel
from nbllama.chat.prompt import Prompt
from nbllama.engine.runtime import Vocabulary
from nbllama.wire.requests import CountTokensRequest, MessagesRequest


def encode(model: LoadedModel, request: MessagesRequest | CountTokensRequest) -> tuple[Prompt, list[int]]:
    """Renders and tokenises. Needs no engine, so counting never waits for a running decode. Raises ChatError."""
    prompt = model.template.render(request)
    return prompt, prompt_ids(prompt, model.vocabulary)


def prompt_ids(prompt: Prompt, vocabulary: Vocabulary) -> list[int]:
    """The ids of a prompt: control tokens only where the template wrote them, and one BOS where the model wants it."""
    ids: list[int] = []
    for segment in prompt.segments:
        ids += vocabulary.tokenize(segment.text, parse_control=segment.control)
    bos = vocabulary.adds_bos
    # Many templates write the BOS themselves; a second one would be a prompt the model never saw.
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]
