"""The message as a client has it after a stream's first events, as HTML: block by block, what is new marked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbllama.views import markup
from nbllama.views.palette import GOOD, GOOD_LINE, INK, look_of

MOST_BLOCKS = 12
"""That are shown, and as many endings, of which a broken stream may have thousands."""
MOST_CHARS = 3000
"""Of a block; of a longer one its end is shown, which is where it grows."""
_LOOKS = {"text": "answer: text", "thinking": "answer: thinking", "tool_use": "tools"}
_TEXTS = ("text", "thinking", "partial_json", "signature")


@dataclass(slots=True)
class _Block:
    kind: str
    name: str
    parts: list[str] = field(default_factory=list)
    open: bool = True
    signed: bool = False


@dataclass(slots=True)
class _Message:
    begun: bool = False
    blocks: dict[str, _Block] = field(default_factory=dict)
    ending: list[str] = field(default_factory=list)
    finished: bool = False
    last: tuple[str, str] = ("", "")


def message_html(events: Iterable[Any]) -> str:
    """Of the events that have come. What is no event of the API is passed over: the validator says it."""
    message = _Message()
    for event in events:
        if isinstance(event, Mapping):
            _take(message, event)
    if not message.begun and not message.blocks:
        return markup.sentences(["Nothing has come yet."])
    blocks = list(message.blocks.items())
    hidden = len(blocks) - MOST_BLOCKS
    parts = [markup.sentences([f"… {hidden:,} blocks before these …"])] if hidden > 0 else []
    parts += [_block(index, block, message.last) for index, block in blocks[-MOST_BLOCKS:]]
    if not blocks:
        parts.append(markup.sentences(["The message has begun; it has no content yet."]))
    more = len(message.ending) - MOST_BLOCKS
    parts += [markup.sentences([f"… {more:,} endings before these …"])] if more > 0 else []
    return "".join([*parts, *map(_ending, message.ending[-MOST_BLOCKS:])])


def _take(message: _Message, event: Mapping[str, Any]) -> None:
    kind, index = event.get("type"), str(event.get("index"))
    message.last = ("", "")
    if kind == "message_start":
        message.begun = True
    elif kind == "content_block_start":
        content = _mapping(event, "content_block")
        message.blocks[index] = _Block(str(content.get("type")), str(content.get("name", "")))
        message.last = (index, "")
    elif kind == "content_block_delta":
        _add(message, index, _mapping(event, "delta"))
    elif kind == "content_block_stop" and index in message.blocks:
        message.blocks[index].open = False
        message.last = (index, "")
    elif kind == "message_delta":
        usage = _mapping(event, "usage").get("output_tokens")
        tokens = f", {usage:,} tokens" if isinstance(usage, int) else ""
        message.ending.append(f"stop_reason: {_mapping(event, 'delta').get('stop_reason')}{tokens}")
    elif kind == "message_stop":
        message.ending.append("The message is complete.")
    elif kind == "error":
        message.ending.append(f"error: {_mapping(event, 'error').get('message')}")


def _add(message: _Message, index: str, delta: Mapping[str, Any]) -> None:
    # A delta without its block's start is shown too: a broken stream is what a reader wants to see.
    block = message.blocks.setdefault(index, _Block("?", ""))
    text = next((delta[name] for name in _TEXTS if isinstance(delta.get(name), str)), "")
    if delta.get("type") == "signature_delta":
        block.signed = True
    else:
        block.parts.append(text)
    message.last = (index, text)


def _block(index: str, block: _Block, last: tuple[str, str]) -> str:
    chip = markup.chip(f"block {index}: {block.kind}", look_of(_LOOKS.get(block.kind, block.kind)))
    state = "open" if block.open else "complete"
    said = f"{f' {block.name}' if block.name else ''} — {state}{', signed' if block.signed else ''}"
    text, new = "".join(block.parts), last[1] if last[0] == index and not block.signed else ""
    new = new[-MOST_CHARS:]
    kept = text[: len(text) - len(new)] if new else text
    before = max(0, len(kept) - MOST_CHARS)
    dots = f"<i>… {before:,} characters before this …</i><br>" if before else ""
    mark = f"background:{GOOD};color:{INK};border-bottom:2px solid {GOOD_LINE}"
    grown = f'<span style="{mark}">{markup.plain(new)}</span>' if new else ""
    frame = f"{markup.MONO};white-space:pre-wrap;border:1px solid #767676;border-radius:4px;padding:4px 8px"
    border = "border-left:4px solid #767676" if not block.open else f"border-left:4px solid {GOOD_LINE}"
    body = f'<div style="{frame};{border};min-height:1.4em">{dots}{markup.plain(kept[before:])}{grown}</div>'
    return f'<div style="margin:6px 0">{chip}{markup.plain(said)}{body}</div>'


def _ending(text: str) -> str:
    return f'<div style="margin:4px 0">■ {markup.plain(text)}</div>'


def _mapping(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}
