"""One request in, stream events out. Read this file first: understand, render, submit, parse, tell.

An accepted request ends in exactly one way: a `message_stop`, or one `error` event. Both pass the table of stream
states, both leave a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

from nbllama.answer.accepted import Accepted, accept
from nbllama.answer.attachments import with_texts
from nbllama.answer.block_writer import joined
from nbllama.answer.failures import to_api_error
from nbllama.answer.forking import NOTHING, Fork
from nbllama.answer.guiding import steering_of
from nbllama.answer.model_catalog import Entry, LoadedModel, ModelCatalog
from nbllama.answer.recorder import Recorder
from nbllama.answer.signatures import Signer
from nbllama.answer.token_places import encode_with_places
from nbllama.answer.wishes import alternatives_of, sampling_of
from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Progress, Reread, Started, Tokens
from nbllama.engine.loop import EngineLoop
from nbllama.wire.answers import MessageBuilder, Usage, new_message
from nbllama.wire.errors import ApiError, ServerFault
from nbllama.wire.events import ErrorEvent, Event, MessageDelta, MessageStart, MessageStop, Ping
from nbllama.wire.requests import MessagesRequest
from nbllama.wire.stream_states import StreamOrder

# Claude Code gives up after 300 s of silence, proxies after 30 to 60: every 10 s is right under all of them.
PING_SECONDS = 10.0
# While a user waits, the progress is worth telling more often.
PROGRESS_SECONDS = 0.5


class Answer:
    """One accepted request. `events()` is driven once, to its end; `cancel()` may come at any time."""

    def __init__(
        self,
        request: MessagesRequest,
        entry: Entry,
        *,
        catalog: ModelCatalog,
        engine: EngineLoop,
        recorder: Recorder,
        signer: Signer,
        alternatives: int = 0,
        fork: Fork | None = None,
    ) -> None:
        """`alternatives`: of how many the trace tells the probability where the request says nothing of it.
        `fork`: where the answer goes on from another one."""
        self._signer = signer
        self.request = request
        self.stream = request.stream
        self.ignored = request.ignored
        self.model_id = entry.source.id
        self.client = recorder.record.client
        self.request_id = recorder.record.id
        self.message_id = recorder.record.message_id
        self._entry = entry
        self._catalog = catalog
        self._engine = engine
        self._recorder = recorder
        self._alternatives = alternatives_of(request, alternatives) if recorder.explained else 0
        self._fork = fork
        self._outcomes: asyncio.Queue[list[Outcome]] = asyncio.Queue()
        self._accepted: Accepted | None = None
        self._cancelled = False
        self._error: ApiError | None = None
        self._usage = Usage()
        self._progress: dict[str, Any] = {}
        self._last_ping = 0.0

    @property
    def progress(self) -> dict[str, Any]:
        """What the client waits for, as its pings say it, with fractions of 0.0 to 1.0; or that it runs."""
        return self._progress or {"state": "running"}

    async def prepare(self) -> None:
        """The steps that can refuse: understand, render, submit. Raises ApiError; nothing runs then."""
        try:
            model = await self._catalog.loaded(self._entry)
            self._accepted = await self._submit(model)
        except Exception as error:
            api_error = to_api_error(error)
            self._recorder.fail(api_error, cancelled=self._cancelled)
            raise api_error from error

    async def events(self) -> AsyncGenerator[Event, None]:
        """The whole answer, ending in MessageStop or ErrorEvent, exactly one. Raises nothing of ours."""
        order = StreamOrder()
        try:
            # Closed here, not when it is collected: what it began must be over before the engine is told to stop.
            async with contextlib.aclosing(self._answer()) as events:
                async for event in events:
                    order.check(event)
                    self._recorder.event(event)
                    yield event
        except Exception as error:  # the border: any failure from here on is told in the stream
            self._error = to_api_error(error)
            self._recorder.fail(self._error, cancelled=self._cancelled)
            event = ErrorEvent(self._error.body(self.request_id))
            order.check(event)
            self._recorder.event(event)
            self._recorder.close()
            yield event
        finally:
            self.cancel()
            self._remember()
            self._recorder.close()

    async def message(self) -> dict[str, Any]:
        """The answer as one Message. Raises ApiError if it ended in an error."""
        builder = MessageBuilder()
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                builder.add(event)
        if self._error is not None:
            raise self._error
        return builder.message()

    def cancel(self) -> None:
        """The client has gone, or the answer is over: the engine drops the job within a step."""
        self._cancelled = True
        self._engine.cancel(self.model_id, self.request_id)

    def _remember(self) -> None:
        """However it ended: a client may send an interrupted answer back as well."""
        if self._accepted is not None:
            self._accepted.remember(self._recorder.record.client, self._recorder.record.output_ids)

    async def _submit(self, model: LoadedModel) -> Accepted:
        self.request = await with_texts(self.request)
        prompt, encoded, offsets = await asyncio.to_thread(
            encode_with_places, model, self.request, self.client, wanted=self._recorder.explained
        )
        if self._fork is not None:
            prompt, encoded, offsets = self._fork.prompt(prompt, encoded)
        # Aside: a grammar may have to be compiled.
        steering = await asyncio.to_thread(steering_of, self.request, model, prompt.tail)
        self._recorder.steered(steering.notes, steering.ignored)
        self.ignored = [*self.ignored, *steering.ignored]
        begun = NOTHING
        if self._fork is not None:
            begun = await asyncio.to_thread(self._fork.begin, steering.guide, model)
            self._recorder.begun(self._fork, begun.ids, likely=self._alternatives > 0)
        explain = self._recorder.explain(prompt.tail)
        accepted = accept(
            self.request,
            model,
            prompt,
            encoded,
            steering.guide,
            sign=self._signer.sign,
            explain=explain,
            begun=begun,
        )
        self._recorder.prompt(prompt, encoded.ids, offsets, model)
        if begun.ending is not None:
            self._outcomes.put_nowait([begun.ending])
        else:
            self._engine.submit(self.model_id, self._job(accepted))
        if self._cancelled:
            # The engine had not heard of the job when it was told to drop it.
            self.cancel()
        return accepted

    def _job(self, accepted: Accepted) -> Job:
        return Job(
            id=self.request_id,
            client=self._recorder.record.client,
            prompt=accepted.ids,
            max_tokens=self._fork.max_tokens if self._fork is not None else self.request.max_tokens,
            sampling=sampling_of(self.request, accepted.model.source.sampling),
            deliver=self._outcomes.put_nowait,
            guide=accepted.guide,
            alternatives=self._alternatives,
            begun=len(accepted.begun.ids),
        )

    async def _answer(self) -> AsyncGenerator[Event, None]:
        if self._accepted is None:
            async with contextlib.aclosing(self._prepare_aloud()) as pings:
                async for ping in pings:
                    yield ping
        accepted = self._accepted
        if accepted is None:
            raise ServerFault("the request was not prepared")
        self._usage.input_tokens = len(accepted.ids)
        yield MessageStart(new_message(self.message_id, self.request.model, self._usage.to_dict()))
        for event in joined(self._tell_text(accepted, accepted.begun.text)):
            yield event
        ending: Finished | Failed | None = None
        self._last_ping = time.monotonic()
        while ending is None and not accepted.over:
            outcomes = await self._next_outcomes()
            if not outcomes:
                yield self._ping()
                continue
            events: list[Event] = []
            for outcome in outcomes:
                if accepted.over:
                    break
                if isinstance(outcome, Finished):
                    self._recorder.finished(outcome)
                if isinstance(outcome, Finished | Failed):
                    ending = outcome
                else:
                    events += self._take(accepted, outcome)
            for event in joined(events):
                yield event
            # A prefill tells each of its steps, so it is never silent for long enough to be asked above.
            if self._progress and time.monotonic() - self._last_ping >= PROGRESS_SECONDS:
                yield self._ping()
        if isinstance(ending, Failed):
            raise ending.error
        if accepted.guide is not None and accepted.guide.stop == "grammar_error":
            raise ServerFault("the grammar of the answer could not be followed to its end", should_retry=False)
        if ending is not None and ending.reason == "cancelled":
            raise ServerFault("the request was cancelled", should_retry=False)
        for event in self._end(accepted, ending):
            yield event

    def _ping(self) -> Ping:
        self._last_ping = time.monotonic()
        return Ping(self._progress)

    async def _prepare_aloud(self) -> AsyncGenerator[Event, None]:
        """Prepares while the model loads, and says how far it is: the headers are out already."""
        task = asyncio.create_task(self.prepare())
        try:
            while True:
                self._progress = {"state": self._entry.state, "load": round(self._entry.load, 3)}
                yield Ping(self._progress)
                done, _ = await asyncio.wait([task], timeout=PROGRESS_SECONDS)
                if done:
                    await task
                    self._progress = {"state": "prefill", "prefill": 0.0}
                    return
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ApiError):
                    await task

    async def _next_outcomes(self) -> list[Outcome]:
        """Everything the engine has delivered since the last call; empty when it is time to ping."""
        patience = PROGRESS_SECONDS if self._progress else PING_SECONDS
        try:
            # Not `wait_for`, which before Python 3.12 loses a cancellation that comes together with outcomes.
            async with asyncio.timeout(patience):
                outcomes = list(await self._outcomes.get())
        except TimeoutError:
            return []
        while not self._outcomes.empty():
            outcomes += self._outcomes.get_nowait()
        return outcomes

    def _take(self, accepted: Accepted, outcome: Tokens | Reread | Started | Progress) -> list[Event]:
        match outcome:
            case Tokens():
                return self._tell_tokens(accepted, outcome)
            case Reread():
                self._recorder.reread(outcome)
            case Started():
                self._start(accepted, outcome)
            case Progress():
                self._tell(outcome)
        return []

    def _start(self, accepted: Accepted, started: Started) -> None:
        cached = started.cached
        five_minutes, one_hour = accepted.kept.created(cached)
        self._usage.cache_read_input_tokens = cached
        self._usage.cache_creation_input_tokens = five_minutes + one_hour
        self._usage.created_for_an_hour = one_hour
        self._usage.input_tokens = len(accepted.ids) - cached - five_minutes - one_hour
        self._recorder.start(started)

    def _tell(self, progress: Progress) -> None:
        self._recorder.progress(progress)
        if progress.position:
            self._progress = {"state": "queued", "position": progress.position}
        else:
            fraction = round(progress.prefilled / max(1, progress.total), 3)
            self._progress = {"state": "prefill", "prefill": fraction}

    def _tell_tokens(self, accepted: Accepted, tokens: Tokens) -> list[Event]:
        self._progress = {}
        self._recorder.tokens(tokens)
        self._usage.output_tokens += len(tokens.ids)
        thought = accepted.writer.in_thinking
        events = self._tell_text(accepted, tokens.text)
        # The tokens that open the thinking count, and those that close it.
        if thought or accepted.writer.in_thinking:
            self._usage.thinking_tokens += len(tokens.ids)
        return events

    def _tell_text(self, accepted: Accepted, text: str) -> list[Event]:
        if not text:
            return []
        self._recorder.text(text)
        shown = accepted.stops.feed(text)
        return accepted.writer.write(accepted.parser.feed(shown)) if shown else []

    def _end(self, accepted: Accepted, finished: Finished | None) -> list[Event]:
        # Before the client can know that it is over: its next turn may come at once.
        self._remember()
        rest = accepted.stops.flush()
        events = accepted.writer.write(accepted.parser.feed(rest)) if rest else []
        events += accepted.writer.write(accepted.parser.finish())
        events += accepted.writer.close()
        stop_reason = self._stop_reason(accepted, finished)
        if finished is not None:
            self._usage.output_tokens = finished.n_generated
        usage = self._usage.to_dict(final=True)
        # Nothing is cut out of a conversation here: whoever asked for it is told so.
        edited: dict[str, Any] | None = None if self.request.context_management is None else {"applied_edits": []}
        return [*events, MessageDelta(stop_reason, accepted.stops.matched, usage, edited), MessageStop()]

    def _stop_reason(self, accepted: Accepted, finished: Finished | None) -> str:
        if accepted.stops.matched is not None:
            return "stop_sequence"
        if finished is not None and finished.reason == "length":
            return "max_tokens"
        if finished is not None and finished.reason == "context":
            return "model_context_window_exceeded"
        return "tool_use" if accepted.writer.n_calls else "end_turn"
