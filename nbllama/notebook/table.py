"""A DataFrame whose cells show what is in them. Imports pandas: only when a table is asked for."""

from __future__ import annotations

import re

import pandas as pd

from nbllama.views.visible import visible


class Table(pd.DataFrame):
    """A DataFrame in everything but how it shows itself: what a model wrote is neither math nor acts on the screen.

    pandas escapes HTML itself; MathJax would still run over `$…$` in a cell."""

    @property
    def _constructor(self) -> type[Table]:
        return Table

    def __repr__(self) -> str:
        return visible(super().__repr__())

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.html.use_mathjax", False):
            html = super()._repr_html_()  # type: ignore[misc]  # not in pandas' stubs
        if html is None:
            return None
        style, end, body = visible(html).rpartition("</style>")
        # In an exported Markdown file a blank line would end the HTML.
        return style + end + re.sub(r"\n[ \t]*(?=\n)", "&#10;", body)
