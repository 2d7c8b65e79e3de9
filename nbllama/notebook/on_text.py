"""The inspectors on any text: `nbllama.tokens(…)`, `nbllama.parse(…)`, `nbllama.events(…)`.

Tokenizers and formats are the worker's, so it is asked; nothing is generated for it. A stream is judged right here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook.errors import TraceError
from nbllama.notebook.inspectors.calls import CallsInspector
from nbllama.notebook.inspectors.events import EventsInspector
from nbllama.notebook.inspectors.tokenizers import TokenizersInspector
from nbllama.notebook.inspectors.tokens import TokensInspector
from nbllama.notebook.kernel_link import link
from nbllama.notebook.saving import read
from nbllama.views.calls import Calls
from nbllama.views.events import Events
from nbllama.views.tokenizers import Tokenizers
from nbllama.views.tokens import Tokens
from nbllama.worker import connection

Json = Mapping[str, Any]
MOST_STREAM = 64 << 20
"""Bytes of a file that is judged as a stream."""
_SECONDS_TO_LOAD = 600.0
"""A model may have to be loaded first."""


def tokens(
    text: str | Sequence[Json],
    model: str | None = None,
    *,
    models: Sequence[str] = (),
    special: bool = False,
    **request: Any,
) -> TokensInspector | TokenizersInspector:
    """A text, or messages as the model's template writes them, token by token; of several `models` a comparison.

    Messages may come with the other fields of a request that make its prompt: `system=`, `tools=`, `thinking=` …
    What spells a control token in a text stays text, unless `special`. Raises TraceError."""
    if models:
        views = [_tokens(text, one, special, request).view for one in models]
        return TokenizersInspector(Tokenizers(views), " and ".join(models))
    return _tokens(text, model, special, request)


def parse(
    text: str,
    model: str | None = None,
    *,
    format: str | Path | Json | None = None,
    tools: Iterable[Any] = (),
    prompt_tail: str = "",
    thinking: bool = True,
) -> CallsInspector:
    """What a model's format makes of a raw text: thinking, text, and calls of these `tools` (Anthropic's shape).

    `format` in place of a `model` is a description as a dictionary or a .json file, or a file with a chat template.
    `prompt_tail` is the end of the prompt that belongs to the answer, such as `<think>`. Raises TraceError."""
    body = {"text": text, "tools": [_tool(one) for one in tools], "prompt_tail": prompt_tail, "thinking": thinking}
    return parsed(body, model, format)


def events(stream: str | Path | bytes | Iterable[Any]) -> EventsInspector:
    """Any endpoint's stream, judged by the rules: a file as curl saves it, its bytes, a saved trace, or a list of
    events, of `[seconds, event]`, or of the SDK's objects. Raises TraceError for a file that cannot be read."""
    if isinstance(stream, bytes):
        return EventsInspector(Events.of_sse(stream), "a stream")
    if isinstance(stream, str | Path):
        return _events_of_file(stream)
    return EventsInspector(Events.of(map(_event, stream)), "a list of events")


def parsed(body: dict[str, Any], model: str | None, format: str | Path | Json | None) -> CallsInspector:
    """The worker's `nbllama/parse`. Raises TraceError."""
    if model is not None and format is not None:
        raise TypeError("parse takes a model or a format, not both")
    how, name = ({"model": model}, model) if format is None else _format(format)
    record = _ask("parse", {**body, **{key: value for key, value in how.items() if value is not None}})
    return CallsInspector(Calls(record), name or str(record["model_id"]))


def _tokens(text: str | Sequence[Json], model: str | None, special: bool, request: Json) -> TokensInspector:
    asked: dict[str, Any]
    if isinstance(text, str):
        if request:
            raise TypeError(f"{', '.join(request)}: belongs to messages, not to a text")
        asked = {"text": text, "special": special}
    else:
        asked = {"messages": list(text), **request}
    return tokens_of_request(asked, model)


def tokens_of_request(request: Json, model: str | None) -> TokensInspector:
    """The prompt of a request, or of `{"text": …}`, as a model sees it. Raises TraceError."""
    body = {name: value for name, value in request.items() if name != "model"}
    record = _ask("tokenize", body | ({"model": model} if model else {}))
    return TokensInspector(Tokens({**record, "request": body}), str(record["model_id"]))


def _ask(what: str, body: dict[str, Any]) -> dict[str, Any]:
    # Half a character pair, which a model's JSON escape can bring, has no UTF-8 form.
    body = json.loads(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    try:
        return connection.request_json(link.endpoint(), "POST", f"/nbllama/{what}", body, timeout=_SECONDS_TO_LOAD)
    except NbllamaError as error:
        raise TraceError(f"{what}: {error}") from error


def _format(format: str | Path | Json) -> tuple[dict[str, Any], str]:
    """The body's field that says how to read, and a name for it."""
    if isinstance(format, Mapping):
        return {"format": dict(format.get("format", format))}, "a format"
    path = Path(format).expanduser()
    if isinstance(format, str) and not path.is_file() and os.sep not in format:
        return {"model": format}, format
    data = read(path, 1 << 20)
    try:
        text = data.decode()
        if path.suffix != ".json":
            return {"template": text}, path.name
        described = json.loads(text)
        return {"format": described.get("format", described)}, path.name
    except (ValueError, AttributeError) as error:
        raise TraceError(f"{path.name} is neither a chat template nor a format's JSON: {error}") from error


def _tool(tool: Any) -> Any:
    """A tool of the SDK's knows its own description."""
    return tool.to_dict() if hasattr(tool, "to_dict") else tool


def _event(event: Any) -> Any:
    return event.to_dict() if hasattr(event, "to_dict") else event


def _events_of_file(path: str | Path) -> EventsInspector:
    from nbllama.notebook import trace_file

    if isinstance(path, str) and "\n" in path:
        return EventsInspector(Events.of_sse(path.encode(errors="replace")), "a stream")
    name = Path(path).name
    if name.lower().endswith(trace_file.NAMES):
        return EventsInspector(Events(trace_file.load(path)), name)
    data = read(path, MOST_STREAM)
    if len(data) > MOST_STREAM:
        raise TraceError(f"{name} is too large for a stream: more than {MOST_STREAM >> 20} MB")
    return EventsInspector(Events.of_sse(data), name)
