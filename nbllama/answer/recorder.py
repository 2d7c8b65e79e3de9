"""Writes down what happens to one request, and hands the finished record over exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nbllama.answer.forking import Fork
from nbllama.answer.likelihoods import to_record
from nbllama.answer.model_catalog import LoadedModel
from nbllama.answer.parser_steps import ParserSteps
from nbllama.answer.token_places import pieces_of
from nbllama.answer.trace import TraceStore, ids_of_answer
from nbllama.chat.explain import Step
from nbllama.chat.prompt import Prompt
from nbllama.engine.errors import EngineStopped
from nbllama.engine.jobs import NO_WORK, Finished, Progress, Reread, Started, Tokens
from nbllama.engine.likelihood import Likelihood
from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import ApiError
from nbllama.wire.events import Event, MessageDelta, MessageStop
from nbllama.wire.records import RequestRecord

MOST_ALTERNATIVES = 100_000
"""Alternatives that one record keeps; while it runs they take 15 MB, and 2 MB of JSON afterwards."""

_ENDINGS = {
    "end_turn": "done",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "model_context_window_exceeded": "context",
}


class Recorder:
    """Event loop only. Times are seconds since the request was accepted; `created` alone is a wall clock.

    `explained` says whether the record may be read: only then are the parser's steps, the pieces of tokens and the like
    put together."""

    def __init__(
        self,
        *,
        id: str,
        message_id: str,
        client: str,
        keep: Callable[[RequestRecord], None],
        traces: TraceStore,
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
        self.explained = traces.keeps
        self._traces = traces
        self._model: LoadedModel | None = None
        self._work = NO_WORK
        self._n_alternatives = 0
        self._n_begun = 0
        self._cached = 0
        self._steps: ParserSteps | None = None
        self._began = time.perf_counter()
        self._builder = MessageBuilder()
        self._times: dict[str, float] = {}
        self._text: list[str] = []
        self._closed = False

    def prompt(self, prompt: Prompt, ids: list[int], offsets: list[int], model: LoadedModel) -> None:
        self._model = model
        record = self.record
        record.model_id = model.source.id
        record.model_hash = model.hash
        record.n_ctx = model.info.n_ctx
        record.prompt = prompt.text
        record.prompt_ids = ids
        record.prompt_offsets = offsets
        record.warnings.extend(model.template.warnings)
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

    def begun(self, fork: Fork, ids: Sequence[int], *, likely: bool) -> None:
        """The answer goes on from `ids` of another one; `likely`: it is asked how probable tokens are."""
        record, now = self.record, self._now()
        self._n_begun = len(ids)
        record.forked_from = fork.facts()
        record.output_ids = list(ids)
        record.token_times = [round(now, 6)] * len(ids)
        if likely:
            record.probabilities = fork.probabilities()[: len(ids)]

    def steered(self, notes: Sequence[str], ignored: Sequence[str]) -> None:
        """What could not be enforced, in words and by the names of its fields."""
        self.record.warnings.extend(notes)
        self.record.ignored.extend(ignored)

    def explain(self, tail: str) -> Callable[[Step], None] | None:
        """Who is to be told a parser's steps; None where nobody reads them, so that none are made."""
        self._steps = ParserSteps(tail) if self.explained else None
        return self._steps

    def progress(self, progress: Progress) -> None:
        """A step of the prefill has ended; what is told of the queue is no part of the record."""
        if not progress.position:
            self.record.prefill.append([self._since(progress.at), progress.prefilled])

    def start(self, started: Started) -> None:
        record = self.record
        self._cached = started.cached
        record.cached_tokens = min(started.cached, len(record.prompt_ids))
        self._times["started"] = started.at - self._began
        if started.reuse is None or not self.explained:
            return
        other, same = self._traces.closest(record) or (None, None)
        record.reuse = {
            "cached_tokens": started.cached,
            "source": started.reuse.source,
            "compared_with": other,
            "first_difference": same,
            "reason": started.reuse.reason,
        }

    def tokens(self, tokens: Tokens) -> None:
        record, at = self.record, tokens.at - self._began
        if "first_token" not in self._times:
            self._times["first_token"] = at
            record.prefill.append([self._since(tokens.at), len(record.prompt_ids) + self._n_begun])
        self._times["last_token"] = at
        record.output_ids.extend(tokens.ids)
        record.token_times.extend([self._since(tokens.at)] * len(tokens.ids))
        self._likely(tokens.likelihoods)
        self._work = tokens.work

    def reread(self, reread: Reread) -> None:
        """What is known of forced tokens by now takes the place of what was."""
        start = self._n_begun + reread.index
        end = start + len(reread.likelihoods)
        if end <= len(self.record.probabilities):
            self.record.probabilities[start:end] = map(to_record, reread.likelihoods)

    def finished(self, finished: Finished) -> None:
        self._work = finished.work

    def _likely(self, likelihoods: Sequence[Likelihood]) -> None:
        for likelihood in likelihoods:
            if self._n_alternatives < MOST_ALTERNATIVES:
                self._n_alternatives += len(likelihood.top) + (len(likelihood.raw.top) if likelihood.raw else 0)
                self.record.probabilities.append(to_record(likelihood))

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
        self._write_pieces()
        if 0 < len(record.probabilities) < len(record.output_ids):
            record.warnings.append(f"probabilities: kept of the first {len(record.probabilities)} tokens only")
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

    def _write_pieces(self) -> None:
        if self._model is None or not self.explained:
            return
        record = self.record
        try:
            record.pieces = pieces_of([*record.prompt_ids, *ids_of_answer(record)], self._model.vocabulary.piece)
        except EngineStopped:
            # The model was unloaded under the request.
            return
        record.special = sorted(id for id in self._model.control if str(id) in record.pieces)

    def _timings(self) -> dict[str, float]:
        """Seconds of each phase that took place, and tokens a second while decoding."""
        times, timings = self._times, {"total_s": self._now()}
        timings |= self._computed()
        if "started" in times:
            timings["queued_s"] = times["started"]
        if "first_token" in times:
            timings["first_token_s"] = times["first_token"]
            timings["prefill_s"] = times["first_token"] - times.get("started", 0.0)
            decode = times["last_token"] - times["first_token"]
            timings["decode_s"] = decode
            if decode > 0:
                timings["tokens_per_second"] = (len(self.record.output_ids) - self._n_begun - 1) / decode
        return {name: round(value, 6) for name, value in timings.items()}

    def _computed(self) -> dict[str, float]:
        """What was computed, and in how many steps; of one that ended in its prefill, as far as it was told."""
        record, work = self.record, self._work
        if work is not NO_WORK:
            return {name: value for name, value in work._asdict().items() if value}
        if not record.prefill:
            return {}
        return {"prefill_tokens": record.prefill[-1][1] - self._cached, "prefill_steps": len(record.prefill)}

    def _since(self, at: float) -> float:
        return round(at - self._began, 6)

    def _now(self) -> float:
        return time.perf_counter() - self._began
