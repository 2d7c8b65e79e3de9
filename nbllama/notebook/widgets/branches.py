"""What came of other choices: a tree of the places where an answer went on otherwise, and each branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.panel import html, put, words
from nbllama.views import markup
from nbllama.views.palette import look_of
from nbllama.views.view import shorten

_CHARS = 160


@dataclass(frozen=True, slots=True)
class Branch:
    """At token `index` the answer went on with `piece`; `said` is what came of it, where it is known as text."""

    index: int
    id: int
    piece: str
    instead: str
    said: str


class Branches:
    """Grows a branch with `add`. The tree is in the order of the answer, the results in the order of asking."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.tree = html()
        self.results = ipywidgets.Accordion()
        self.results.layout.display = "none"
        self.grown: list[Branch] = []
        self.box = ipywidgets.VBox([self.tree, self.results])

    def add(self, branch: Branch, result: Any) -> None:
        """`result` is whatever a notebook can display."""
        self.grown.append(branch)
        self.results.children = (*self.results.children, _shown(result))
        title = f"token {branch.index}: {branch.instead} → {branch.piece}"
        self.results.set_title(len(self.grown) - 1, words(title))
        self.results.layout.display = ""
        self.results.selected_index = len(self.grown) - 1
        put(self.tree, self._html())

    def _html(self) -> str:
        ordered = sorted(self.grown, key=lambda branch: branch.index)
        lines = [f"● {markup.plain(shorten(self._answer, _CHARS) or 'the answer')}"]
        for n, branch in enumerate(ordered):
            corner = "└─" if n == len(ordered) - 1 else "├─"
            chip = markup.chip(branch.piece, look_of("tools"))
            instead = f"token {branch.index:,}, instead of {markup.plain(branch.instead)}:"
            lines.append(f"{corner} {instead} {chip}{markup.plain(shorten(branch.said, _CHARS))}")
        body = "".join(f'<div style="margin:3px 0">{line}</div>' for line in lines)
        return markup.caption("Branches") + f'<div style="{markup.MONO};overflow-wrap:anywhere">{body}</div>'


def said_of(result: Any, begun: str) -> str:
    """What came behind `begun`, where the result is a text or says one; where that begins otherwise, all of it."""
    said = _spelled(result)
    if not said:
        return ""
    return said.removeprefix(begun) if said.startswith(begun) else f" … {said}"


def _spelled(result: Any) -> str:
    """Of a trace all that the model wrote: its `text` has no thinking and no calls, in which a branch may begin."""
    if isinstance(result, str):
        return result
    record = getattr(result, "record", None)
    said = record.get("output_text") if isinstance(record, Mapping) else getattr(result, "text", "")
    return said if isinstance(said, str) else ""


def _shown(result: Any) -> Any:
    if isinstance(result, ipywidgets.Widget):
        return result
    if isinstance(result, str):
        return html(markup.block(result))
    output = ipywidgets.Output()
    output.append_display_data(result)
    return output
