"""Any text as part of a record that the views read: its tokens, or what a format's parser makes of it.

Nothing is generated and nothing is kept. Engine and cells are not needed, so no running decode is waited for.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from nbllama.answer.attachments import with_texts
from nbllama.answer.block_writer import BlockWriter, joined
from nbllama.answer.failures import to_api_error
from nbllama.answer.model_catalog import Entry, LoadedModel, ModelCatalog
from nbllama.answer.parser_steps import ParserSteps
from nbllama.answer.token_places import encode_with_places, pieces_of, prompt_offsets
from nbllama.answer.tokenise import Encoded
from nbllama.chat.errors import ChatError
from nbllama.chat.format import Format, from_data
from nbllama.chat.parser import StreamParser
from nbllama.chat.prompt import Origin, Prompt, Segment, Span
from nbllama.chat.template import ChatTemplate
from nbllama.wire.answers import MessageBuilder, Usage, new_message
from nbllama.wire.errors import InvalidRequest, NotFound
from nbllama.wire.events import Event, MessageDelta, MessageStart, MessageStop
from nbllama.wire.requests import CountTokensRequest, parse_count_tokens_request

MOST_CHARACTERS = 2_000_000
"""Of a text or a rendered prompt. As tokens with their places it is 9 MB of JSON."""
MOST_TEMPLATE = 1 << 20
_WORDS = re.compile(r"\s*\S+|\s+")

Fields = dict[str, Any]


class AnyText:
    """The two doors beside the Messages API. Event loop only; the work is done in threads."""

    def __init__(self, catalog: ModelCatalog) -> None:
        self._catalog = catalog

    async def tokenize(self, body: Mapping[str, Any], *, client: str, default_model: str | None = None) -> Fields:
        """`{"text", "special"?, "model"?}`, or the body of a Messages request → the fields of a record that say what
        its prompt is: prompt, spans, prompt_ids, prompt_offsets, pieces, special, model_id, n_ctx.

        Control tokens in a text stay text, unless `special` is true. Raises ApiError.
        """
        text = _text(body) if "text" in body else None
        try:
            # Aside: 8 MB of small blocks take seconds.
            request = await asyncio.to_thread(_messages, body) if text is None else None
            model = await self._catalog.loaded(self._entry(body, default_model))
            if request is not None:
                return await asyncio.to_thread(_of_messages, model, await with_texts(request), client)
            return await asyncio.to_thread(_of_text, model, text or "", body.get("special") is True)
        except Exception as error:
            raise to_api_error(error) from error

    async def parse(self, body: Mapping[str, Any], *, default_model: str | None = None) -> Fields:
        """`{"text", "model"? | "template"? | "format"?, "tools"?, "prompt_tail"?, "thinking"?, "parallel"?,
        "cuts"?}` → the fields of a record that say how it was read: output_text, parser_steps, events, message.

        `template` is a chat template's text, `format` a description as `nbllama format --json` writes it; `prompt_tail`
        is the end of the prompt that belongs to the answer. The parser is fed piece by piece, up to each of the `cuts`
        in characters; without them word by word. Raises ApiError.
        """
        text, tools = _text(body), _tools(body)
        pieces = _pieces(text, body.get("cuts"))
        tail = body.get("prompt_tail", "")
        if not isinstance(tail, str):
            raise InvalidRequest("prompt_tail: Input should be a valid string")
        flags = {name: body.get(name) is not False for name in ("thinking", "parallel")}
        try:
            name, format = await self._format(body, default_model)
            return {"model_id": name, **await asyncio.to_thread(_parsed, format, pieces, tools, tail, **flags)}
        except Exception as error:
            raise to_api_error(error) from error

    async def _format(self, body: Mapping[str, Any], default_model: str | None) -> tuple[str, Format]:
        """A name for it, and the format."""
        if sum(name in body for name in ("model", "template", "format")) > 1:
            raise InvalidRequest("format: only one of model, template and format says how to read the text")
        try:
            if "format" in body:
                return "format", from_data(body["format"])
            if "template" in body:
                return "template", (await asyncio.to_thread(_template, body["template"])).format
        except ChatError as error:
            raise InvalidRequest(str(error)) from error
        model = await self._catalog.loaded(self._entry(body, default_model))
        return model.source.id, model.template.format

    def _entry(self, body: Mapping[str, Any], default_model: str | None) -> Entry:
        """The model that is named, or the default: who inspects one must not be shown another. Raises NotFound."""
        name = body.get("model")
        if not name:
            return self._catalog.named("", default_model)
        try:
            return self._catalog.known(str(name))
        except NotFound:
            names = [str(info["id"]) for info in self._catalog.infos()]
            near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(names)}"
            raise NotFound(f"model: no model {name!r} is known here; {hint}") from None


def _text(body: Mapping[str, Any]) -> str:
    text = body.get("text")
    if not isinstance(text, str) or not text:
        raise InvalidRequest("text: Input should be a string that is not empty")
    return _checked(text, "text")


def _checked(text: str, name: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise InvalidRequest(f"{name}: {len(text):,} characters are more than the {MOST_CHARACTERS:,} that are shown")
    return text


def _messages(body: Mapping[str, Any]) -> CountTokensRequest:
    """What of a Messages request makes its prompt; which model, is asked elsewhere. Raises InvalidRequest."""
    if "messages" not in body:
        raise InvalidRequest("messages: a text or messages are required")
    sent = {**body, "model": str(body.get("model") or "default")}
    return parse_count_tokens_request(json.dumps(sent).encode())


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(one, Mapping) and "name" in one for one in tools):
        raise InvalidRequest("tools: Input should be a list of objects with name and input_schema")
    return {str(tool["name"]): tool.get("input_schema") or {} for tool in tools}


def _pieces(text: str, cuts: Any) -> list[str]:
    if cuts is None:
        return _WORDS.findall(text)
    if not isinstance(cuts, list) or not all(type(cut) is int for cut in cuts):
        raise InvalidRequest("cuts: Input should be a list of whole numbers")
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def _template(source: Any) -> ChatTemplate:
    if not isinstance(source, str) or len(source) > MOST_TEMPLATE:
        raise InvalidRequest(f"template: Input should be a string of at most {MOST_TEMPLATE:,} characters")
    return ChatTemplate(source, bos="", eos="", control_tokens=())


def _of_messages(model: LoadedModel, request: CountTokensRequest, client: str) -> Fields:
    prompt, encoded, offsets = encode_with_places(model, request, client, wanted=True)
    _checked(prompt.text, "messages")
    return _fields(model, prompt, encoded.ids, offsets)


def _of_text(model: LoadedModel, text: str, special: bool) -> Fields:
    ids = model.vocabulary.tokenize(text, parse_control=special)
    prompt = Prompt(text, (Span(0, len(text), Origin("text")),), (Segment(text, False),), "")
    offsets = prompt_offsets(prompt, Encoded(ids, 0, "", (0, len(ids))), model.vocabulary.piece)
    return _fields(model, prompt, ids, offsets)


def _fields(model: LoadedModel, prompt: Prompt, ids: list[int], offsets: list[int]) -> Fields:
    pieces = pieces_of(ids, model.vocabulary.piece)
    return {
        "model_id": model.source.id,
        "n_ctx": model.info.n_ctx,
        "prompt": prompt.text,
        "spans": [_span(span) for span in prompt.spans],
        "prompt_ids": ids,
        "prompt_offsets": offsets,
        "pieces": pieces,
        "special": sorted(id for id in model.control if str(id) in pieces),
    }


def _span(span: Span) -> Fields:
    origin = span.origin
    return {"start": span.start, "end": span.end, "kind": origin.kind, "message": origin.message, "block": origin.block}


def _parsed(
    format: Format, pieces: Sequence[str], tools: Mapping[str, Any], tail: str, *, thinking: bool, parallel: bool
) -> Fields:
    steps = ParserSteps(tail)
    parser = StreamParser(format, tail, tools, thinking=thinking, explain=steps)
    writer = BlockWriter("shown", one_call=not parallel)
    usage = Usage()
    events: list[Event] = [MessageStart(new_message("msg_parsed", "", usage.to_dict()))]
    for piece in pieces:
        events += joined(writer.write(parser.feed(piece)))
    events += joined([*writer.write(parser.finish()), *writer.close()])
    stop_reason = "tool_use" if writer.n_calls else "end_turn"
    events += [MessageDelta(stop_reason, None, usage.to_dict(final=True)), MessageStop()]
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    left_out = [f"parser_steps: {steps.n_left_out} more are left out"] if steps.n_left_out else []
    return {
        "output_text": "".join(pieces),
        "parser_steps": steps.rows,
        "events": [event.data() for event in events],
        "message": builder.message(),
        "warnings": left_out,
    }
