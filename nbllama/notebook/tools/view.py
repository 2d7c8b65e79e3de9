"""A step of a run with tools → static HTML and text. Pure.

One output for each step: what a tool prints or draws stands between the step that called it and the next one, and a
panel that was opened in a finished step is not closed by an update.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbllama.notebook import markup
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.display import ENDINGS, block_html, plain_call
from nbllama.notebook.phrases import counted
from nbllama.notebook.tools.calling import Call
from nbllama.notebook.tools.results import Content
from nbllama.views.visible import visible

if TYPE_CHECKING:
    from nbllama.notebook.tools.run import Step

# Literal values only, which an untrusted notebook keeps; the text has the front end's own colour, light or dark.
_SMALL = "font-size:0.85em;opacity:0.7;margin:2px 0"
_NOTE = "font-size:0.9em;font-weight:600;margin:4px 0"
_BOX = "border:1px solid rgba(128,128,128,0.4);border-left:4px solid {};border-radius:4px;padding:4px 10px;margin:6px 0"
_CHIP = "background:{};border-radius:8px;padding:0 8px;font-size:0.85em;white-space:nowrap"
_TEXT = "background:rgba(128,128,128,0.12);border-radius:4px;padding:4px 10px;margin:4px 0;white-space:pre-wrap"
_TALL = ";max-height:300px;overflow:auto"
_LABEL = "font-size:0.85em;opacity:0.7"

_GREY, _BLUE, _GREEN, _RED, _AMBER = "128,128,128", "56,132,220", "40,160,80", "214,72,60", "214,150,30"
# State → its colour, its sign (colour alone is not seen by everybody), its words.
_STATES = {
    "waiting": (_GREY, "…", "waits"),
    "asked": (_AMBER, "?", "waits for your answer"),
    "running": (_BLUE, "▶", "running"),
    "ok": (_GREEN, "✓", "done"),
    "error": (_RED, "✗", "error"),
    "declined": (_AMBER, "✗", "declined"),
    "not run": (_GREY, "○", "not run"),
    "interrupted": (_RED, "■", "interrupted"),
}
# `-n` is of `%%llama` alone.
_ENDINGS = {**ENDINGS, "max_tokens": "cut off at max_tokens"}
_FEW_LINES, _FEW_CHARACTERS, _ONE_LINE = 6, 400, 300


def bundle(steps: Sequence[Step]) -> dict[str, str]:
    """The steps as static HTML and as their real text."""
    return {"text/html": html(steps), "text/plain": "\n\n".join(plain(step) for step in steps)}


def html(steps: Sequence[Step]) -> str:
    """Everything from the model and the tools escaped; the look in literal styles."""
    return markup.static("".join(_step(step) for step in steps))


def plain(step: Step) -> str:
    """Text and calls as they end, then the results in their order: while the step runs, this only grows."""
    answer = step.answer
    parts = [_plain_block(answer, block) for block in answer.blocks if not answer.is_open(block) or "text" in block]
    parts += [_plain_result(call) for call in step.calls if call.state not in ("waiting", "asked", "running")]
    if note := _note(step):
        parts.append(f"[{note}]")
    return visible("\n\n".join(part for part in parts if part))


def text_of(content: Content) -> str:
    """A result's content as text; a block that is no text by its type."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", f"[{block.get('type')}]")) for block in content)


def _note(step: Step) -> str:
    return step.note or _ENDINGS.get(step.answer.ending, "")


def _step(step: Step) -> str:
    calls = {call.id: call for call in step.calls}
    parts = [_block(step, block, calls) for block in step.answer.blocks]
    if note := _note(step):
        parts.append(f'<div style="{_NOTE}">■ {markup.plain(note)}</div>')
    small = [text for text in (step.answer.waiting, step.footer) if text] or ([] if parts else ["…"])
    if small:
        parts.append(f'<div style="{_SMALL}">{markup.plain(" · ".join(small))}</div>')
    return "".join(parts)


def _block(step: Step, block: dict[str, Any], calls: dict[str, Call]) -> str:
    if block.get("type") != "tool_use":
        return block_html(step.answer, block)
    name = str(block.get("name"))
    if (call := calls.get(str(block.get("id")))) is not None:
        return _call(call)
    if step.answer.is_open(block):
        return _box(_GREY, name, "… being written", _code(step.answer.arguments_so_far(block)))
    return _box(_GREY, name, "… waits", _code(_json(block.get("input"))))


def _call(call: Call) -> str:
    colour, sign, words = _STATES[call.state]
    time = f" {_seconds(call)}" if call.seconds is not None else ""
    parts = [_code(_json(call.arguments))]
    if call.content or call.state == "ok":
        parts.append(_result(call))
    if call.traceback:
        parts.append(_folded("traceback", call.traceback))
    return _box(colour, call.name, f"{sign} {words}{time}", "".join(parts))


def _box(colour: str, name: str, chip: str, inner: str) -> str:
    head = (
        f'<span style="{_LABEL}">tool call</span> <strong>{markup.plain(name)}</strong> '
        f'<span style="{_CHIP.format(f"rgba({colour},0.22)")}">{markup.plain(chip)}</span>'
    )
    return f'<div style="{_BOX.format(f"rgb({colour})")}">{head}{inner}</div>'


def _result(call: Call) -> str:
    text = text_of(call.content)
    label = "what the model is told" if call.is_error else "result"
    if len(text) <= _FEW_CHARACTERS and text.count("\n") < _FEW_LINES:
        return f'<div style="{_LABEL}">{label}</div>{_code(text)}'
    n_lines = text.count("\n") + 1
    return _folded(f"{label}: {len(text):,} characters, {counted(n_lines, 'line')}", text)


def _folded(label: str, text: str) -> str:
    summary = f'<summary style="cursor:pointer;{_LABEL}">{markup.plain(label)}</summary>'
    return f'<details style="margin:4px 0">{summary}{_code(text)}</details>'


def _code(text: str) -> str:
    return f'<pre style="{_TEXT}{_TALL}">{markup.plain(text)}</pre>'


def _json(arguments: Any) -> str:
    """On one line if it is short."""
    line = json.dumps(arguments, ensure_ascii=False)
    return line if len(line) <= _ONE_LINE else json.dumps(arguments, indent=2, ensure_ascii=False)


def _seconds(call: Call) -> str:
    seconds = call.seconds or 0.0
    return f"{seconds:.0f} s" if call.state == "running" else f"{seconds:.2f} s"


def _plain_block(answer: AnswerView, block: dict[str, Any]) -> str:
    return plain_call(answer, block) if block.get("type") == "tool_use" else str(block.get("text", ""))


def _plain_result(call: Call) -> str:
    time = f", {_seconds(call)}" if call.seconds is not None else ""
    word = "result" if call.state == "ok" else call.state
    return f"[{word}: {call.name}{time}] {text_of(call.content)}".rstrip()
