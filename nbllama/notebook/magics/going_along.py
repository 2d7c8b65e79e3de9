"""What goes along with a prompt that the user did not write: shown before it is sent."""

from __future__ import annotations

from nbllama.notebook import markup
from nbllama.notebook.display import SMALL

_TEXT = (
    "white-space:pre-wrap;background-color:transparent;max-height:200px;overflow:auto;padding:4px 10px;"
    "margin:0 0 8px 0;border:1px solid rgba(128,128,128,0.4);border-radius:4px;font-size:0.85em"
)


def show(title: str, text: str) -> None:
    """A display of its own, above the answer."""
    from IPython.display import display

    html = f'<div style="{SMALL}">{markup.plain(title)}</div><pre style="{_TEXT}">{markup.plain(text)}</pre>'
    display(markup.bundle(html, f"{title}\n{text}"), raw=True)  # type: ignore[no-untyped-call]
