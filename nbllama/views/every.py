"""The views by their names, for who is asked for one by its name."""

from __future__ import annotations

from nbllama.views.cache import Cache
from nbllama.views.calls import Calls
from nbllama.views.events import Events
from nbllama.views.probabilities import Probabilities
from nbllama.views.reading import Record
from nbllama.views.timing import Timing
from nbllama.views.tokens import Tokens
from nbllama.views.view import View

NAMES = ("tokens", "events", "calls", "timing", "cache", "probabilities")


def view_of(name: str, record: Record, *, before: Record | None = None, context: int | None = None) -> View:
    """`before` is the request to compare with, `context` the model's context in tokens. Raises KeyError."""
    if name == "tokens":
        return Tokens(record, context=context)
    if name == "cache":
        return Cache(record, before)
    simple: dict[str, type[Events | Calls | Timing | Probabilities]] = {
        "events": Events,
        "calls": Calls,
        "timing": Timing,
        "probabilities": Probabilities,
    }
    return simple[name](record)
