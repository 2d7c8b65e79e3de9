"""`%llama load REF`: asks for the model, and shows how far its weights are until it is there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook import markup
from nbllama.notebook.display import Output
from nbllama.notebook.served_models import model_entries
from nbllama.views.visible import visible
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

_INTERVAL = 0.2
"""Seconds between two looks at the worker's status."""

_STYLE = "width:24em;max-width:60%;vertical-align:middle"


def load(endpoint: Endpoint, ref: str, show: Callable[[float], None]) -> dict[str, Any]:
    """The model's entry in the worker's status. `show` is given fractions, 0.0 to 1.0, which never fall.

    An interrupt ends the waiting; the worker loads on. Raises NbllamaError."""
    answers: list[dict[str, Any] | NbllamaError] = []

    def ask() -> None:
        try:
            answers.append(connection.request_json(endpoint, "POST", "/nbllama/load", {"model": ref}, timeout=None))
        except NbllamaError as error:
            answers.append(error)

    # Beside the main thread, which is the one that an interrupt reaches.
    asking = threading.Thread(target=ask, name="nbllama-load", daemon=True)
    asking.start()
    shown = 0.0
    while asking.is_alive():
        asking.join(_INTERVAL)
        fraction = _loaded(endpoint) if asking.is_alive() else None
        if fraction is not None and fraction >= shown:
            show(shown := fraction)
    answer = answers[0]
    if isinstance(answer, NbllamaError):
        raise answer
    return answer


class ProgressBar:
    """One output, updated in place; a line each time in a terminal. Nothing is shown of what is there at once."""

    def __init__(self, what: str, *, terminal: bool) -> None:
        self._what, self._terminal = what, terminal
        self._output = Output()

    def show(self, fraction: float) -> None:
        """`fraction` is 0.0 to 1.0."""
        text = f"{self._what}: {fraction:.0%}"
        if self._terminal:
            print(visible(text))
            return
        bar = f'{markup.plain(text)} <progress max="100" value="{fraction * 100:.0f}" style="{_STYLE}"></progress>'
        self._draw(bar, text)

    def finish(self, text: str) -> None:
        """What stands there in place of the bar; printed where there was none."""
        if self._output.shown:
            self._draw(markup.plain(text), text)
        else:
            print(visible(text))

    def _draw(self, html: str, text: str) -> None:
        self._output.draw(markup.bundle(html, text))


def _loaded(endpoint: Endpoint) -> float | None:
    """How far the model is that is being loaded; None if the worker does not say."""
    with contextlib.suppress(NbllamaError, KeyError):
        models = model_entries(endpoint, timeout=5)
        return next((float(model.get("load") or 0) for model in models if model["state"] == "loading"), None)
    return None
