"""Puts an answer on the screen while it comes in. In a notebook: one output, rewritten about ten times a second."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

from IPython.display import DisplayHandle

from nbllama.notebook import markup
from nbllama.notebook.answer_view import AnswerView
from nbllama.views.visible import visible

INTERVAL = 0.1
"""Seconds between two updates: each one rewrites the whole output (300 updates at 10/s cost the browser a tenth)."""

# Literal values only: classes, theme colours and <style> do not survive an untrusted notebook.
SMALL = "font-size:0.85em;opacity:0.65;margin:2px 0"
_ENDED = "font-size:0.9em;font-weight:600;margin:4px 0"
_BOX = "border:1px solid rgba(128,128,128,0.4);border-radius:4px;padding:4px 10px;margin:4px 0 8px 0"
_RAW = "white-space:pre-wrap;background-color:transparent;padding:0;margin:0"
_THOUGHT = "white-space:pre-wrap;max-height:300px;overflow:auto;margin:4px 0 0 0;opacity:0.75"

ENDINGS = {
    "interrupted": "interrupted",
    "failed": "ended by an error",
    "max_tokens": "cut off at max_tokens (-n raises it)",
    "model_context_window_exceeded": "cut off: the context is full",
}
"""What an answer says below itself that did not end by itself, by `AnswerView.ending`."""


class Screen(Protocol):
    shows_written: bool
    """Whether an answer is shown as the model wrote it."""

    def show(self, view: AnswerView) -> None:
        """Something has changed. May be left out if the last time was just now."""

    def finish(self, view: AnswerView, footer: str) -> None:
        """The last call: everything is shown, with the footer below."""


class Output:
    """One display with an id, updated in place."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._last = 0.0

    @property
    def shown(self) -> bool:
        """Whether it is on the screen yet."""
        return self._handle is not None

    def due(self) -> bool:
        """Whether the last time was long enough ago; then this is the last time."""
        now = time.monotonic()
        if self.shown and now - self._last < INTERVAL:
            return False
        self._last = now
        return True

    def draw(self, data: dict[str, str]) -> None:
        """Shows a bundle in place of the last one."""
        if self._handle is None:
            # Known before it is shown: an interrupt may come as soon as the output is on its way.
            self._handle = DisplayHandle()  # type: ignore[no-untyped-call]  # IPython
            self._handle.display(data, raw=True)  # type: ignore[no-untyped-call]  # IPython
        else:
            self._handle.update(data, raw=True)  # type: ignore[no-untyped-call]  # IPython


class NotebookScreen:
    """One output. With `raw`, as text, at the end with the model's own marks."""

    def __init__(self, *, raw: bool = False) -> None:
        self.shows_written = raw
        self._output = Output()

    def show(self, view: AnswerView) -> None:
        if self._output.due():
            self._output.draw(self._bundle(view))

    def finish(self, view: AnswerView, footer: str) -> None:
        if self._output.shown or not view.empty:
            self._output.draw(self._bundle(view, footer))

    def _bundle(self, view: AnswerView, footer: str = "") -> dict[str, str]:
        return raw_bundle(view, footer) if self.shows_written else bundle(view, footer)


class TerminalScreen:
    """Prints what is new: a terminal cannot rewrite its outputs, and shows no Markdown anyway."""

    shows_written = False

    def __init__(self) -> None:
        self._n_shown = 0

    def show(self, view: AnswerView) -> None:
        text = plain(view)
        print(text[self._n_shown :], end="", flush=True)
        self._n_shown = max(self._n_shown, len(text))

    def finish(self, view: AnswerView, footer: str) -> None:
        self.show(view)
        print(f"\n[{visible(footer)}]" if footer else "", flush=True)


def say(text: str) -> None:
    """Prints a line beside the answer, such as what there is to wait for."""
    print(visible(text))


def in_terminal() -> bool:
    """Whether outputs are printed and stay as they are: in a terminal's IPython, and without any."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is None or any(kind.__name__ == "TerminalInteractiveShell" for kind in type(shell).__mro__)


def bundle(view: AnswerView, footer: str = "") -> dict[str, str]:
    """The answer as static HTML and as its real text."""
    return {"text/html": html(view, footer), "text/plain": plain(view)}


def raw_bundle(view: AnswerView, footer: str = "") -> dict[str, str]:
    """The answer as it was written: nothing of it is rendered. Until it has ended, as far as the events tell."""
    text = view.written or "\n\n".join(part for part in (_raw(view, block) for block in view.blocks) if part)
    parts = [f'<pre style="{_RAW}">{markup.plain(text)}</pre>'] if text else []
    ending = f"\n\n[{ENDINGS[view.ending]}]" if view.ending in ("interrupted", "failed") else ""
    return markup.bundle("".join([*parts, *_notes(view, footer)]), text + ending)


def html(view: AnswerView, footer: str = "") -> str:
    """Everything from the model escaped; the look in literal styles, for light and dark, trusted and not."""
    return markup.static("".join([*(block_html(view, block) for block in view.blocks), *_notes(view, footer)]))


def plain(view: AnswerView) -> str:
    """The text and the tool calls; while the answer comes in, this only grows."""
    calls = [block for block in view.blocks if block.get("type") == "tool_use" and not view.is_open(block)]
    parts = [*view.texts, *(plain_call(view, block) for block in calls)]
    if view.ending in ("interrupted", "failed"):
        parts.append(f"[{ENDINGS[view.ending]}]")
    return visible("\n\n".join(part for part in parts if part))


def plain_call(view: AnswerView, block: dict[str, Any]) -> str:
    """A tool call on a line."""
    return f"[tool call] {block.get('name')} {view.arguments_so_far(block)}"


def _notes(view: AnswerView, footer: str) -> list[str]:
    """What stands below the answer: how it ended, what is waited for, the footer; something in any case."""
    parts = [f'<div style="{_ENDED}">■ {ENDINGS[view.ending]}</div>'] if view.ending in ENDINGS else []
    notes = [note for note in (view.waiting, footer) if note]
    if not view.blocks and not parts and not notes:
        notes = ["…"]
    if notes:
        parts.append(f'<div style="{SMALL}">{markup.plain(" · ".join(notes))}</div>')
    return parts


def _raw(view: AnswerView, block: dict[str, Any]) -> str:
    if block.get("type") != "tool_use":
        return str(block.get("text") or block.get("thinking") or "")
    return f"{block.get('name')} {view.arguments_so_far(block)}"


def block_html(view: AnswerView, block: dict[str, Any]) -> str:
    """One content block."""
    match block.get("type"):
        case "text":
            return markup.to_html(block["text"])
        case "thinking":
            return _thinking(block["thinking"], still=view.is_open(block))
        case "tool_use":
            return _tool_call(block, still=view.is_open(block))
    return ""


def _thinking(text: str, *, still: bool) -> str:
    if not text:
        return ""
    label = "Thinking …" if still else f"Thinking ({len(text.split())} words)"
    thought = f'<div style="{_THOUGHT}">{markup.plain(text)}</div>'
    return f'<details style="{_BOX}"><summary style="cursor:pointer">{label}</summary>{thought}</details>'


def _tool_call(block: dict[str, Any], *, still: bool) -> str:
    arguments = "…" if still else markup.code(json.dumps(block.get("input"), indent=2, ensure_ascii=False))
    name = markup.plain(str(block.get("name")))
    return f'<div style="{_BOX}"><span style="opacity:0.65">tool call</span> <strong>{name}</strong> {arguments}</div>'
