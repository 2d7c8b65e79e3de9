"""A model's Markdown → HTML that is safe everywhere. Pure.

Why not text/markdown: each front end renders that with another library, and a fresh output counts as trusted, so HTML
that a model writes would come alive. Here raw HTML is escaped, and an image is its text: it would call whatever address
the model named. No classes and no styles: front ends style the plain tags, for light and dark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from html import escape
from typing import Any


def to_html(text: str) -> str:
    """The whole text as HTML. Unfinished markup, as while streaming, is shown as far as it goes."""
    return _renderer()(text)


def code(text: str) -> str:
    """Text as a block of code."""
    return f"<pre><code>{escape(text)}</code></pre>"


@functools.cache
def _renderer() -> Callable[[str], str]:
    import mistune  # at the first answer, not at %load_ext

    class SafeRenderer(mistune.HTMLRenderer):
        def image(self, text: str, url: str, title: str | None = None) -> str:
            return text

    render: Any = mistune.create_markdown(
        renderer=SafeRenderer(escape=True), plugins=["table", "strikethrough"], hard_wrap=True
    )
    return lambda text: str(render(text))
