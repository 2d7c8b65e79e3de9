"""What the worker's endpoints call: one object for every request, model and trace. Event loop only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nbllama.answer.answer_request import Answer
from nbllama.answer.any_text import AnyText
from nbllama.answer.attachments import with_texts
from nbllama.answer.failures import to_api_error
from nbllama.answer.forking import Fork
from nbllama.answer.loading import Loader, default_cache_bytes, load_runtime
from nbllama.answer.model_catalog import Entry, ModelCatalog, info_of
from nbllama.answer.model_facts import format_of
from nbllama.answer.model_sources import ModelError
from nbllama.answer.recorder import Recorder
from nbllama.answer.service_settings import ServiceSettings
from nbllama.answer.signatures import Signer, load_key
from nbllama.answer.tokenise import encode
from nbllama.answer.trace import TraceStore
from nbllama.answer.understanding import Understanding
from nbllama.engine.loop import Delivery, EngineLoop, deliver_directly
from nbllama.wire.answers import new_id
from nbllama.wire.errors import ApiError, NotFound, Overloaded
from nbllama.wire.ignored import ignored_betas
from nbllama.wire.records import RequestRecord
from nbllama.wire.requests import MessagesRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counted:
    """The size of a prompt, for which model, and what of the request changes nothing."""

    input_tokens: int
    model_id: str
    ignored: list[str]
    edits_context: bool = False
    """Whether context management was asked for, which the API answers in a field of its own."""


class Service:
    """Start it in a running event loop, close it in the same one."""

    def __init__(self, settings: ServiceSettings, *, load: Loader | None = None) -> None:
        cache_bytes = settings.cache_bytes if settings.cache_bytes is not None else default_cache_bytes()
        self._engine = EngineLoop(max_waiting=settings.max_waiting, cache_bytes=cache_bytes, dispatch=self._dispatch)
        loader = load or load_runtime(settings.threads, settings.trial_memory)
        self._catalog = ModelCatalog(
            self._engine, settings.model, settings.ctx, loader, settings.aliases, settings.formats
        )
        self.texts = AnyText(self._catalog)
        self._signer = Signer(load_key(settings.signature_key) if settings.signature_key else None)
        self._alternatives = settings.probabilities
        self._traces = TraceStore(max_count=settings.trace_count, max_bytes=settings.trace_bytes)
        self._understanding = Understanding(self._catalog, self._traces, self._signer, lenient=settings.lenient)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[str, Answer] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._n_requests = 0

    async def start(self) -> None:
        """Starts the engine thread. No model is loaded before somebody asks."""
        self._loop = asyncio.get_running_loop()
        self._engine.start()

    async def close(self) -> None:
        """Ends every running request with an error, frees the models."""
        self._draining = True
        await asyncio.to_thread(self._engine.close)
        self._catalog.close()
        # Give the streams one turn of the loop to tell their clients.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._idle.wait()

    async def drain(self, timeout: float) -> None:
        """Accepts nothing new and waits for what runs, `timeout` seconds at most."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    @property
    def lenient(self) -> bool:
        """Whether what only the real API refuses is taken."""
        return self._understanding.lenient

    async def messages(
        self,
        body: bytes,
        *,
        client: str,
        request_id: str,
        default_model: str | None = None,
        betas: Sequence[str] = (),
    ) -> Answer:
        """Accepts a request, or raises the ApiError that refuses it. `default_model` is its door's own reference,
        `betas` are the headers `anthropic-beta`.

        With the model loaded, everything that can be refused is refused here. A stream that must wait for the model
        is accepted at once, so that its headers and pings can flow, and tells a failure in the stream.
        """
        return await self._accept(
            client, request_id, lambda record: self._understanding.message(body, record, default_model, betas)
        )

    async def fork(self, id: str, body: bytes, *, client: str, request_id: str) -> Answer:
        """A request that goes on from a token of one of the client's own answers (`wire/forks.py`), by the request's or
        the message's id. Raises ApiError as `messages` does, NotFound where no such trace is kept."""
        return await self._accept(client, request_id, lambda record: self._understanding.fork(id, body, record))

    async def _accept(
        self,
        client: str,
        request_id: str,
        understood: Callable[[RequestRecord], Awaitable[tuple[MessagesRequest, Entry, Fork | None]]],
    ) -> Answer:
        if self._draining:
            raise Overloaded("the server is stopping", retry_after=1.0)
        recorder = Recorder(
            id=request_id, message_id=new_id("msg"), client=client, keep=self._ended, traces=self._traces
        )
        try:
            request, entry, fork = await understood(recorder.record)
        except ApiError as error:
            recorder.fail(error)
            raise
        answer = Answer(
            request,
            entry,
            catalog=self._catalog,
            engine=self._engine,
            recorder=recorder,
            signer=self._signer,
            alternatives=self._alternatives,
            fork=fork,
        )
        self._n_requests += 1
        self._running[request_id] = answer
        self._idle.clear()
        if entry.model is not None or not request.stream:
            try:
                await answer.prepare()
            except asyncio.CancelledError:
                answer.cancel()
                recorder.close()
                raise
        return answer

    async def count_tokens(self, body: bytes, *, client: str, default_model: str | None = None) -> dict[str, Any]:
        """What `counted` says, as the API's JSON."""
        return {"input_tokens": (await self.counted(body, client=client, default_model=default_model)).input_tokens}

    async def counted(
        self, body: bytes, *, client: str, default_model: str | None = None, betas: Sequence[str] = ()
    ) -> Counted:
        """Counts the exact prompt, beside any running decode."""
        request, entry = await self._understanding.counting(body, default_model)
        model = await self._guarded(self._catalog.loaded(entry))
        try:
            request = await with_texts(request)
            _, encoded = await asyncio.to_thread(encode, model, request, client)
        except Exception as error:
            raise to_api_error(error) from error
        ignored = [*request.ignored, *ignored_betas(betas)]
        return Counted(len(encoded.ids), entry.source.id, ignored, request.context_management is not None)

    def models(self) -> list[dict[str, Any]]:
        """ModelInfo of every model, the default first."""
        return self._translated(self._catalog.infos)

    def model(self, id: str) -> dict[str, Any]:
        """ModelInfo of one model. Raises NotFound."""
        return info_of(self._translated(lambda: self._catalog.known(id)))

    async def load(self, ref: str, *, ctx: int | None = None) -> dict[str, Any]:
        """Loads a model beside the others. `ctx` in tokens. Raises NotFound for no model's reference, else ApiError."""
        try:
            entry = self._catalog.entry(ref)
        except ModelError as error:
            raise NotFound(str(error)) from error
        await self._guarded(self._catalog.loaded(entry, ctx))
        return next(model for model in self._catalog.describe() if model["id"] == entry.source.id)

    async def unload(self, id: str) -> dict[str, Any]:
        """Frees a model's memory; its running requests end with an error. Raises NotFound."""
        await self._guarded(self._catalog.unload(id))
        return {"id": id, "state": "unloaded"}

    async def format(self, model_id: str) -> dict[str, Any]:
        """What `model_facts.format_of` says of a model (empty: the default), which is loaded for it."""
        return format_of(await self._guarded(self._catalog.loaded(self._understanding.entry(model_id))))

    def status(self) -> dict[str, Any]:
        """What runs, for `nbllama status`."""
        with contextlib.suppress(ApiError):
            self._translated(self._catalog.default)
        models = self._catalog.describe()
        waiting = sum(self._engine.n_jobs(model["id"])[1] for model in models)
        return {
            "models": models,
            "requests_total": self._n_requests,
            "requests_running": len(self._running),
            "requests_waiting": waiting,
            "requests": [{"model": answer.model_id, **answer.progress} for answer in self._running.values()],
        }

    def requests(self, client: str) -> list[dict[str, Any]]:
        """A client's own running requests, oldest first: id, message_id, model, stream, and what each waits for."""
        return [
            {"id": id, "message_id": one.message_id, "model": one.model_id, "stream": one.stream, **one.progress}
            for id, one in self._running.items()
            if one.client == client
        ]

    def cancel(self, id: str, client: str) -> dict[str, Any]:
        """Ends one of a client's own running requests, by request or message id. Raises NotFound."""
        for answer in self._running.values():
            if id in (answer.request_id, answer.message_id) and answer.client == client:
                answer.cancel()
                return {"id": answer.request_id, "cancelled": True}
        raise NotFound(f"no running request {id}: it is another client's, has ended, or never was")

    def traces(self, client: str) -> list[dict[str, Any]]:
        """A client's own records in short, newest first."""
        return self._traces.summaries(client)

    def trace(self, id: str, client: str) -> dict[str, Any]:
        """One of a client's own records, by request or message id. Raises NotFound."""
        return self._traces.get(id, client)

    def trace_data(self, id: str, client: str) -> bytes:
        """The same as JSON. Raises NotFound."""
        return self._traces.data(id, client)

    def check_integrity(self) -> None:
        """Raises if the engine's books do not add up. For tests; blocks for a step."""
        self._engine.check_integrity()

    def _ended(self, record: RequestRecord) -> None:
        self._running.pop(record.id, None)
        if not self._running:
            self._idle.set()
        self._traces.add(record)

    def _dispatch(self, deliveries: list[Delivery]) -> None:
        """From the engine thread into the event loop: one wake-up a step."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver_directly, deliveries)

    async def _guarded(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except Exception as error:
            raise to_api_error(error) from error

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:
            raise to_api_error(error) from error
