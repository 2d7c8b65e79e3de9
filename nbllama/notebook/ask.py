"""One cell's question: streamed to the screen, at most ten updates a second, and once at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from IPython.display import display

from nbllama.errors import NbllamaError
from nbllama.notebook.link import LINK
from nbllama.notebook.view import AnswerView
from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import ApiError
from nbllama.wire.events import Event, MessageStart, event_of
from nbllama.worker import connection

# Each update sends and draws the whole answer: at every token the page does five times the work for the same picture.
UPDATE_SECONDS = 0.1


class AskFailed(NbllamaError):
    """A question without an answer. Shown as one line: what is wrong is not in the user's code."""

    def _render_traceback_(self) -> list[str]:
        return [f"nbllama: {self}"]


class Screen:
    """One display handle, updated at its own pace."""

    def __init__(self, view: AnswerView) -> None:
        self._view = view
        self._handle = display(view.bundle(), raw=True, display_id=True)
        self._shown = time.monotonic()

    def update(self, *, now: bool = False) -> None:
        """Shows the view if the last update is long enough ago, or `now`."""
        if self._handle is None or not (now or time.monotonic() - self._shown >= UPDATE_SECONDS):
            return
        self._handle.update(self._view.bundle(), raw=True)
        self._shown = time.monotonic()


def ask(body: dict[str, Any]) -> dict[str, Any]:
    """Asks, shows the answer as it comes, gives the Message's JSON.

    Raises AskFailed with what is wrong and what to do. An interrupt stops the generation, keeps what came, and goes on.
    """
    view, builder = AnswerView(), MessageBuilder()
    screen = Screen(view)
    began = time.monotonic()
    try:
        for event in _events(body, view, screen):
            view.add(event)
            builder.add(event)
            if isinstance(event, MessageStart):
                began = time.monotonic()
            screen.update()
    except KeyboardInterrupt:
        _close(view, screen, ["interrupted", *_facts(view, body, began)])
        raise
    except NbllamaError as error:
        _close(view, screen, [])
        raise AskFailed(explain(error)) from None
    if view.error is not None:
        _close(view, screen, ["broken off"])
        raise AskFailed(str(view.error.get("message", "the stream ended in an error")))
    _close(view, screen, _facts(view, body, began))
    return builder.message()


def explain(error: NbllamaError) -> str:
    """One line and, where there is one, the way out."""
    text = str(error)
    if isinstance(error, ApiError) and text.startswith("prompt is too long"):
        return f"{text}. Shorten the question, or give the model a larger context: %llama load REF --ctx N"
    return text


def _events(body: dict[str, Any], view: AnswerView, screen: Screen) -> Iterator[Event]:
    def wait(text: str) -> None:
        view.note = f"{text} …"
        screen.update(now=True)

    endpoint = LINK.endpoint(wait)
    stream = connection.stream_events(endpoint, body, on_headers=lambda headers: LINK.note(headers.get("request-id")))
    try:
        for sent in stream:
            if event := event_of(sent.json()):
                yield event
    finally:
        # Closing the socket is what stops the generation when the cell is interrupted.
        stream.close()  # type: ignore[attr-defined]  # a generator


def _close(view: AnswerView, screen: Screen, footer: list[str]) -> None:
    view.done, view.footer = True, footer
    screen.update(now=True)


def _facts(view: AnswerView, body: dict[str, Any], began: float) -> list[str]:
    """The footer: model, size, tokens, tokens/s, and why it ended if not by itself."""
    facts = [str(body["model"])]
    try:
        if size := LINK.size_of(str(body["model"])):
            facts.append(size)
    except NbllamaError:
        # A footer is no reason to fail: the answer is there.
        pass
    if n_out := view.usage.get("output_tokens"):
        n_in = view.usage.get("input_tokens", 0) + view.usage.get("cache_read_input_tokens", 0)
        facts.append(f"{n_in} tokens in, {n_out} out")
        facts.append(f"{n_out / max(1e-6, time.monotonic() - began):.0f} tokens/s")
    if view.stop_reason not in (None, "end_turn", "tool_use"):
        facts.append(f"ended by {view.stop_reason}")
    return facts
