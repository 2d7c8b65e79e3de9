"""A streamed answer as it looks in a notebook: static HTML that survives saving, and the real text beside it.

JupyterLab strips <style>, scripts and theme variables from untrusted notebooks; inline literal colours stay. The greys
here can be read on a light and on a dark page. What a model wrote is escaped, its Markdown is rendered without raw HTML
and without images: an image would call whatever address the model named.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import Any

import mistune

from nbllama.wire.events import (
    ContentBlockDelta,
    ContentBlockStart,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageStart,
    Ping,
)

_GREY = "#888888"
_BOX = f"border:1px solid {_GREY};border-radius:4px;padding:4px 8px;margin:6px 0"
_FOOTER = f"color:{_GREY};font-size:85%;margin-top:6px"
_DELTA_KEYS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class _SafeHtml(mistune.HTMLRenderer):
    """Markdown without raw HTML, and with images as their text."""

    def __init__(self) -> None:
        super().__init__(escape=True)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return html.escape(text)


_markdown = mistune.create_markdown(renderer=_SafeHtml(), plugins=["table", "strikethrough"], hard_wrap=True)


@dataclass
class Block:
    """One content block while it grows; `text` is its text, thinking, or arguments' JSON."""

    kind: str
    name: str = ""
    text: str = ""


@dataclass
class AnswerView:
    """Events in, pictures out. `footer` parts are shown below the answer, `note` in place of an answer not yet there."""

    blocks: list[Block] = field(default_factory=list)
    note: str = "starting …"
    footer: list[str] = field(default_factory=list)
    stop_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    done: bool = False

    def add(self, event: Event) -> None:
        """Takes the next event of the stream."""
        match event:
            case Ping(progress):
                self.note = describe_progress(progress) or self.note
            case MessageStart():
                self.note = "reading the prompt …"
            case ContentBlockStart(_, block):
                self.blocks.append(Block(str(block["type"]), str(block.get("name", ""))))
            case ContentBlockDelta(_, delta):
                if key := _DELTA_KEYS.get(str(delta["type"])):
                    self.blocks[-1].text += str(delta[key])
            case MessageDelta(stop_reason, _, usage):
                self.stop_reason, self.usage = stop_reason, usage
            case ErrorEvent(body):
                self.error = body.get("error", {})
            case _:
                pass

    @property
    def text(self) -> str:
        """The answer's text alone."""
        return "".join(block.text for block in self.blocks if block.kind == "text")

    def bundle(self) -> dict[str, str]:
        """The MIME bundle of the answer as it is now."""
        return {"text/html": self.to_html(), "text/plain": self.to_text()}

    def to_text(self) -> str:
        parts = [_block_text(block) for block in self.blocks]
        shown = "\n".join(part for part in parts if part)
        return shown or (f"({self.note})" if not self.done else "(no text)")

    def to_html(self) -> str:
        parts = [_block_html(block) for block in self.blocks]
        if not self.done and not any(parts):
            parts.append(f'<div style="color:{_GREY}">{html.escape(self.note)}</div>')
        if self.footer:
            parts.append(f'<div style="{_FOOTER}">{html.escape(" · ".join(self.footer))}</div>')
        return "<div>" + "".join(parts) + "</div>"


def describe_progress(progress: dict[str, Any]) -> str:
    """What a ping says of a request that waits, in words; empty if it says nothing."""
    match progress.get("state"):
        case "loading" | "unloaded":
            return f"loading the model, {progress.get('load', 0):.0%} …"
        case "queued":
            return f"waiting in the queue, place {progress.get('position')} …"
        case "prefill":
            return f"reading the prompt, {progress.get('prefill', 0):.0%} …"
    return ""


def _block_text(block: Block) -> str:
    if block.kind == "tool_use":
        return f"[calls {block.name}({block.text})]"
    return block.text if block.kind == "text" else ""


def _block_html(block: Block) -> str:
    if block.kind == "thinking":
        shown = f'<div style="color:{_GREY};white-space:pre-wrap">{html.escape(block.text)}</div>'
        return f'<details style="{_BOX}"><summary>Thinking</summary>{shown}</details>'
    if block.kind == "tool_use":
        return (
            f'<div style="{_BOX}"><b>calls {html.escape(block.name)}</b>'
            f'<pre style="margin:4px 0;white-space:pre-wrap">{html.escape(_pretty(block.text))}</pre></div>'
        )
    return str(_markdown(block.text)) if block.text else ""


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except ValueError:
        return arguments
