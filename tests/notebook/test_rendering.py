"""What a hostile model writes is text, in every way in which an answer, a trace or an error is shown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from nbllama.notebook import trace_summary
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.display import bundle, plain
from nbllama.notebook.errors import AskError
from nbllama.notebook.table import Table
from nbllama.views.visible import visible
from nbllama.wire.errors import ServerFault

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) [b](data:text/html,x) "
    "![c](http://t/x) $$x$$ \x1b[31mred\x1b]0;title\x07 \x08\x9b2J a\rb \u202eabc\u2066d \x00\n\n"
    "```\n</code></pre></div><img src=x onerror=alert(2)>\n```\n\n"
    "| <b>t</b> |\n|---|\n| <script>alert(1)</script> |\n\n\n"
    "# [x](javascript:alert(1)) [y](<http://t/x\"onmouseover=\"alert(3)>)\n\n<a href='javascript:x'>y</a> " + "w" * 500
)
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
TAGS = {"div", "details", "summary", "span", "style", "strong", "em", "pre", "code", "p", "br", "a", "h1"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def check_html(html: str) -> None:
    found = Tags(html)

    assert {tag for tag, _ in found.tags} <= TAGS
    assert not any(name.startswith("on") or name == "src" for _, attributes in found.tags for name in attributes)
    assert all((attributes.get("href") or "http://").startswith("http") for _, attributes in found.tags)
    assert "<script>alert(1)</script>" in found.text
    assert ACTING.search(html) is None
    assert "\n\n" not in html.rpartition("</style>")[2]
    assert any("tex2jax_ignore" in (attributes.get("class") or "") for _, attributes in found.tags)


def hostile_view(ending: str = "end_turn") -> AnswerView:
    view = AnswerView()
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": HOSTILE, "signature": ""},
        {"type": "text", "text": HOSTILE},
        {"type": "tool_use", "id": "t", "name": HOSTILE, "input": {HOSTILE: HOSTILE}},
    ]
    for index, block in enumerate(blocks):
        view.add_data({"type": "content_block_start", "index": index, "content_block": block})
        view.add_data({"type": "content_block_stop", "index": index})
    view.waiting, view.ending = HOSTILE, ending
    return view


@pytest.mark.parametrize("ending", ["", "end_turn", "interrupted", "failed"])
def test_an_answer(ending: str) -> None:
    shown = bundle(hostile_view(ending), HOSTILE)

    assert set(shown) == {"text/html", "text/plain"}
    check_html(shown["text/html"])
    assert "\n" not in shown["text/html"]
    assert "<script>alert(1)</script>" in shown["text/plain"] and ACTING.search(shown["text/plain"]) is None
    assert "␛[31mred" in shown["text/plain"] and "[U+202E]abc" in shown["text/plain"]


def test_a_trace() -> None:
    rows = [("text", HOSTILE), (HOSTILE, "x")]

    check_html(trace_summary.html(rows))
    assert ACTING.search(trace_summary.plain(rows)) is None


def test_a_table() -> None:
    table = Table({HOSTILE: [HOSTILE], "n": [1]})
    with pd.option_context("display.max_colwidth", None):
        for frame in (table, table[table.n == 1], table.head(1)):
            html: str | None = frame._repr_html_()
            assert html is not None
            check_html(html)
            assert ACTING.search(repr(frame)) is None
    assert isinstance(table, pd.DataFrame) and table[HOSTILE][0] == HOSTILE


def test_an_error() -> None:
    lines = AskError(ServerFault(HOSTILE))._render_traceback_()

    assert ACTING.search("".join(lines)) is None
    assert lines[0].startswith("api_error: <script>")


def test_a_stream_only_grows() -> None:
    text, shown = "one\r\ntwo\rthree\x1b[0m\r\n", ""
    for n in range(len(text) + 1):
        now = visible(text[:n])
        assert now.startswith(shown)
        shown = now
    assert shown == "one\ntwo␍three␛[0m\n"


def test_the_value_is_what_the_model_said() -> None:
    view = hostile_view()
    view.add_data({"type": "message_start", "message": {"id": "m"}})

    assert (view.message() or {})["content"][1]["text"] == HOSTILE
    assert plain(view) != HOSTILE


def test_exported_as_markdown_it_is_the_same_html() -> None:
    """The exported file is read as Markdown again: no part of an answer may fall out of its HTML."""
    import mistune
    from nbconvert import MarkdownExporter
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    data = bundle(hostile_view(), HOSTILE)
    cell = new_code_cell("x", outputs=[new_output("display_data", data=data)])  # type: ignore[no-untyped-call]
    exported, _ = MarkdownExporter().from_notebook_node(new_notebook(cells=[cell]))  # type: ignore[no-untyped-call]

    assert data["text/html"] in exported
    read_again = str(mistune.create_markdown(escape=False)(exported))
    assert data["text/html"] in read_again
