"""A model's Markdown → HTML that is safe everywhere. Pure.

Why not text/markdown: each front end renders that with another library, and a fresh output counts as trusted, so HTML
that a model writes would come alive. Here raw HTML is escaped, an image is its text (it would call whatever address the
model named), and so is a link to anything but a page or a mail address. Front ends style the plain tags, for light and
dark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from html import escape
from typing import Any

from nbllama.views.markup import plain, static
from nbllama.views.visible import visible

__all__ = ["bundle", "code", "plain", "static", "to_html"]

_CODE = "background:rgba(128,128,128,0.12);border-radius:4px;padding:6px 10px;white-space:pre-wrap"
# JupyterLab would put a white stripe behind each line.
_PLAIN = "background-color:transparent;padding:0"
_LINKS = ("http://", "https://", "mailto:")


def to_html(text: str) -> str:
    """The whole text as HTML. Unfinished markup, as while streaming, is shown as far as it goes."""
    return _renderer()(visible(text))


def bundle(html: str, text: str) -> dict[str, str]:
    """An output in both forms: HTML whose parts are escaped, and its text."""
    return {"text/html": static(html), "text/plain": visible(text)}


def code(text: str) -> str:
    """Text as a block of code."""
    return _block(visible(text))


def _block(text: str) -> str:
    return f'<pre style="{_CODE}"><code style="{_PLAIN}">{escape(text)}</code></pre>'


@functools.cache
def _renderer() -> Callable[[str], str]:
    import mistune  # at the first answer, not at %load_ext

    class SafeRenderer(mistune.HTMLRenderer):
        def image(self, text: str, url: str, title: str | None = None) -> str:
            return text

        def block_code(self, code: str, info: str | None = None) -> str:
            return _block(code)

        def link(self, text: str, url: str, title: str | None = None) -> str:
            if not url.lower().startswith(_LINKS):
                return f"{text} ({escape(url)})" if escape(url) != text else text
            return f'<a href="{escape(url)}" rel="noopener noreferrer">{text}</a>'

    render: Any = mistune.create_markdown(
        renderer=SafeRenderer(escape=True), plugins=["table", "strikethrough"], hard_wrap=True
    )
    return lambda text: str(render(text))
