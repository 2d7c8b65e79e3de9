"""Writes down what happens to one request, and hands the finished record over exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nbllama.answer.parser_steps import ParserSteps
from nbllama.chat.explain import Step
from nbllama.chat.prompt import Prompt
from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import ApiError
from nbllama.wire.events import Event, MessageDelta, MessageStop
from nbllama.wire.records import RequestRecord

_ENDINGS = {
    "end_turn": "done",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "model_context_window_exceeded": "context",
}


class Recorder:
    """Event loop only. Times are seconds since the request was accepted; `created` alone is a wall clock.

    `explained` says whether the parser's steps are wanted."""

    def __init__(
        self,
        *,
        id: str,
        message_id: str,
        client: str,
        keep: Callable[[RequestRecord], None],
        explained: bool = False,
    ) -> None:
        self.record = RequestRecord(
            id=id,
            message_id=message_id,
            client=client,
            model="",
            created=time.time(),
            stream=False,
        )
        self._keep = keep
        self._explained = explained
        self._steps: ParserSteps | None = None
        self._began = time.perf_counter()
        self._builder = MessageBuilder()
        self._times: dict[str, float] = {}
        self._text: list[str] = []
        self._closed = False

    def prompt(self, prompt: Prompt, ids: list[int], warnings: Sequence[str]) -> None:
        record = self.record
        record.prompt = prompt.text
        record.prompt_ids = ids
        record.warnings.extend(warnings)
        record.spans = [
            {
                "start": span.start,
                "end": span.end,
                "kind": span.origin.kind,
                "message": span.origin.message,
                "block": span.origin.block,
            }
            for span in prompt.spans
        ]

    def steered(self, notes: Sequence[str], ignored: Sequence[str]) -> None:
        """What could not be enforced, in words and by the names of its fields."""
        self.record.warnings.extend(notes)
        self.record.ignored.extend(ignored)

    def explain(self, tail: str) -> Callable[[Step], None] | None:
        """Who is to be told a parser's steps; None where nobody reads them, so that none are made."""
        self._steps = ParserSteps(tail) if self._explained else None
        return self._steps

    def start(self, cached: int) -> None:
        self.record.cached_tokens = cached
        self._times["started"] = self._now()

    def tokens(self, ids: Sequence[int]) -> None:
        if not self.record.output_ids:
            self._times["first_token"] = self._now()
        self.record.output_ids.extend(ids)
        self._times["last_token"] = self._now()

    def text(self, text: str) -> None:
        self._text.append(text)

    def event(self, event: Event) -> None:
        self.record.events.append([round(self._now(), 6), event.data()])
        self._builder.add(event)
        if isinstance(event, MessageDelta):
            self.record.ending = _ENDINGS.get(event.stop_reason, "done")
        elif isinstance(event, MessageStop):
            self.record.message = self._builder.message()
            # Now, not when the generator is left: who has read the last event may ask for the trace.
            self.close()

    def fail(self, error: ApiError, *, cancelled: bool = False) -> None:
        """The request ended in an error. One that was refused before its first event is kept at once."""
        self.record.ending = "cancelled" if cancelled else "error"
        self.record.error = error.body(self.record.id)["error"]
        if not self.record.events:
            self.close()

    def close(self) -> None:
        """Nothing more will happen. A record without an ending is of a request that its client left."""
        if self._closed:
            return
        self._closed = True
        record = self.record
        record.output_text = "".join(self._text)
        self._write_steps()
        if record.message is None and record.error is None:
            record.ending = "cancelled"
        record.timings = self._timings()
        self._keep(record)

    def _write_steps(self) -> None:
        if self._steps is None:
            return
        self.record.parser_steps = self._steps.rows
        if self._steps.n_left_out:
            self.record.warnings.append(f"parser_steps: {self._steps.n_left_out} more are left out")

    def _timings(self) -> dict[str, float]:
        """Seconds of each phase that took place, and tokens a second while decoding."""
        times, timings = self._times, {"total_s": self._now()}
        if "started" in times:
            timings["queued_s"] = times["started"]
        if "first_token" in times:
            timings["first_token_s"] = times["first_token"]
            timings["prefill_s"] = times["first_token"] - times.get("started", 0.0)
            decode = times["last_token"] - times["first_token"]
            timings["decode_s"] = decode
            if decode > 0:
                timings["tokens_per_second"] = (len(self.record.output_ids) - 1) / decode
        return {name: round(value, 6) for name, value in timings.items()}

    def _now(self) -> float:
        return time.perf_counter() - self._began
