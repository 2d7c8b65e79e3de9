"""One `%%llama` cell: ask, show while it comes in, leave the trace and the Message behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook.answer_events import answer_events
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.display import Screen
from nbllama.notebook.errors import AskError, interrupted
from nbllama.notebook.interrupts import Interrupts
from nbllama.notebook.kernel_link import link
from nbllama.notebook.served_models import model_entry, model_of, size_of
from nbllama.notebook.trace import Trace, remember
from nbllama.wire.answers import new_id
from nbllama.worker.connection import Endpoint
from nbllama.worker.errors import WorkerDied, WorkerError

Message = dict[str, Any]


@dataclass
class Question:
    """What a cell asks. `model` empty: the server's default. `max_tokens` in tokens.

    `prompt` is the content of the user's message, `history` are the messages before it. `seed` makes an answer that is
    drawn the same each time. `extra` are fields as they are."""

    prompt: str | list[dict[str, Any]]
    model: str = ""
    max_tokens: int = 1024
    temperature: float | None = None
    system: str | None = None
    thinking: bool = False
    seed: int | None = None
    history: Sequence[Message] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def body(self, model: str) -> dict[str, Any]:
        """The request, without the fields that were not asked for."""
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": self.max_tokens,
            "messages": [*self.history, {"role": "user", "content": self.prompt}],
        }
        if self.system is not None:
            body["system"] = self.system
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.thinking:
            body["thinking"] = {"type": "adaptive"}
        if self.seed is not None:
            body["nbllama"] = {"seed": self.seed}
        return body | self.extra


@dataclass(frozen=True)
class Ended:
    """How an answer ended, as `AnswerView` tells it, and the messages that followed the prompt.

    `usage` is empty before the answer began. `n_ctx` in tokens, None where the server is not asked or does not say."""

    ending: str
    said: list[Message]
    usage: dict[str, Any]
    n_ctx: int | None


@dataclass
class Asking:
    """One answer on its way to the screen. `on_end` is told of its end once; what it answers stands in the footer."""

    question: Question
    screen: Screen
    view: AnswerView = field(default_factory=AnswerView)
    interrupts: Interrupts = field(default_factory=Interrupts)
    model: str = ""
    trace: Trace | None = None
    on_end: Callable[[Ended], str] | None = None

    def run(self) -> None:
        """Streams the answer to its end. Raises AskError; a KeyboardInterrupt passes, and stops the model."""
        try:
            self._stream()
        except KeyboardInterrupt as interrupt:
            # A second one must not come between the answer and its mark.
            self.interrupts.held = True
            self._finish("interrupted")
            raise interrupted(interrupt) from None
        except NbllamaError as error:
            self._finish("failed")
            raise AskError(error) from error
        self._finish(self.view.ending)

    def _stream(self) -> None:
        endpoint = link.endpoint(on_wait=self.wait)
        try:
            self._take(endpoint)
        except WorkerDied:
            link.forget(endpoint)
            raise
        except WorkerError:
            # It ended since it was found. Nothing was sent yet, so a new one can answer.
            self._take(link.endpoint(on_wait=self.wait, instead_of=endpoint))

    def _take(self, endpoint: Endpoint) -> None:
        self.model = model_of(endpoint, self.question.model)
        body = self.question.body(self.model)
        own_id = new_id("req")
        with answer_events(endpoint, body, own_id, lambda headers: self._begun(headers, endpoint)) as events:
            try:
                for event in events:
                    self.view.add(event)
                    self.screen.show(self.view)
            except KeyboardInterrupt:
                # Before the first byte: nobody has told its id yet.
                if self.trace is None and endpoint.is_worker:
                    self.trace = remember(own_id, endpoint)
                raise
        if self.view.error is not None:
            raise self.view.error

    def _begun(self, headers: dict[str, str], endpoint: Endpoint) -> None:
        self.model = headers.get("nbllama-model") or self.model
        if "request-id" in headers:
            self.trace = remember(headers["request-id"], endpoint)

    def wait(self, text: str) -> None:
        """Shows what there is to wait for."""
        self.view.waiting = text
        self.screen.show(self.view)

    def _finish(self, ending: str) -> None:
        self.view.waiting, self.view.ending = "", ending
        if ending in ("interrupted", "failed"):
            # Nothing is asked any more: the server may be what is broken.
            model = "" if self.view.empty and ending == "failed" else self.model
            self.screen.finish(self.view, _joined(model, self._told(None)))
        else:
            self.view.written = _written(self.trace) if self.screen.shows_written else ""
            self.screen.finish(self.view, self._footer())

    def _footer(self) -> str:
        usage = (self.view.message() or {}).get("usage", {})
        # What only decorates must not fail a cell that has its answer.
        entry = model_entry(self.trace.endpoint, self.model) if self.trace is not None else {}
        parts = [self.model, size_of(entry)]
        if usage:
            parts.append(f"{n_prompt(usage):,} tokens in, {usage.get('output_tokens') or 0:,} out")
        return _joined(*parts, _speed(self.trace), self._told(entry.get("n_ctx")))

    def _told(self, n_ctx: int | None) -> str:
        if self.on_end is None:
            return ""
        message = self.view.message()
        said = [{"role": "assistant", "content": message["content"]}] if message else []
        return self.on_end(Ended(self.view.ending, said, (message or {}).get("usage") or {}, n_ctx))


def n_prompt(usage: dict[str, Any]) -> int:
    """The tokens of the whole prompt, read from the cache or not."""
    return sum(usage.get(name) or 0 for name in _PROMPT_TOKENS)


_PROMPT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _written(trace: Trace | None) -> str:
    """What the model wrote, letter by letter."""
    with contextlib.suppress(NbllamaError):
        return str(trace.record.get("output_text") or "") if trace is not None else ""
    return ""


def _speed(trace: Trace | None) -> str:
    """Also fetches the record: `nbllama.last` then outlives the worker."""
    with contextlib.suppress(NbllamaError):
        speed = trace.timings.get("tokens_per_second") if trace is not None else None
        return f"{speed:,.0f} tokens/s" if speed else ""
    return ""
