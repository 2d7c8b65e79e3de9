"""A request's exact prompt, as text and as ids."""

from __future__ import annotations

from dataclasses import dataclass

from nbllama.answer.generated import Context, GeneratedIds
from nbllama.answer.model_catalog import LoadedModel
from nbllama.chat.prompt import Prompt
from nbllama.engine.runtime import Vocabulary
from nbllama.wire.requests import CountTokensRequest, MessagesRequest


@dataclass(frozen=True, slots=True)
class Encoded:
    """`ids` from `tail_start` on are the text of `tail`, the prompt's end behind its last control token.

    `segments` are the places in `ids` where the prompt's segments begin, and the end."""

    ids: list[int]
    tail_start: int
    tail: str
    segments: tuple[int, ...] = ()


def encode(model: LoadedModel, request: MessagesRequest | CountTokensRequest, client: str) -> tuple[Prompt, Encoded]:
    """Renders and tokenises. Needs no engine, so counting never waits for a running decode. Raises ChatError."""
    prompt = model.template.render(request)
    return prompt, prompt_ids(prompt, model.vocabulary, model.generated, client)


def prompt_ids(prompt: Prompt, vocabulary: Vocabulary, generated: GeneratedIds, client: str) -> Encoded:
    """The ids of a prompt: control tokens only where the template wrote them, and one BOS where the model wants it.

    A text that this model generated for this client, there, has the ids that it was generated with.
    """
    ids: list[int] = []
    context = Context(client)
    tail_start, tail = 0, ""
    starts: list[int] = []
    for segment in prompt.segments:
        tail_start, tail = len(ids), "" if segment.control else segment.text
        if segment.control:
            part = vocabulary.tokenize(segment.text, parse_control=True)
        else:
            part = _text_ids(segment.text, vocabulary, generated, context)
        bos = vocabulary.adds_bos
        # Many templates write the BOS themselves; a second one would be a prompt the model never saw.
        if not ids and bos is not None and part[:1] != [bos]:
            ids, tail_start = [bos], 1
            context.add([bos])
        starts.append(len(ids))
        ids += part
        context.add(part)
    return Encoded(ids, tail_start if tail else len(ids), tail, (*starts, len(ids)))


def _text_ids(text: str, vocabulary: Vocabulary, generated: GeneratedIds, context: Context) -> list[int]:
    match = generated.find(context, text)
    if match is None:
        return vocabulary.tokenize(text, parse_control=False)
    rest = vocabulary.tokenize(match.rest, parse_control=False) if match.rest else []
    if b"".join(map(vocabulary.piece, rest)) != match.rest.encode():
        # A vocabulary that begins each text with a space would put one in the middle.
        return vocabulary.tokenize(text, parse_control=False)
    if match.rest:
        generated.note(context, text, [*match.ids, *rest])
    return [*match.ids, *rest]
