"""The worker's endpoints: thin, one for each noun. The route table is in `routes.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from nbllama.wire.errors import InvalidRequest, NotFound
from nbllama.worker.client_http import ATTACHED_AS_HEADER, ATTACHED_KINDS
from nbllama.worker.endpoint import ClientGone, Endpoint
from nbllama.worker.lifecycle import OTHER
from nbllama.worker.model_page import in_lifecycle, page_of
from nbllama.worker.sse_response import send_events

if TYPE_CHECKING:
    from nbllama.answer.answer_request import Answer

KEEP_ALIVE_SECONDS = 30.0
"""Below the 60 s after which proxies close a silent connection."""

LEAVING_SECONDS = 0.5
"""How long it may take until a connection that the asking client has just closed is seen as closed."""


class NotFoundEndpoint(Endpoint):
    """Every path that is none, with any method."""

    def get(self) -> None:
        raise NotFound(f"Not found: {self.request.path}")

    head = post = put = patch = delete = options = get


class HelloEndpoint(Endpoint):
    """Claude Code warms its connection up with HEAD /api/hello or HEAD /."""

    def head(self) -> None:
        self.set_status(200)


class _ModelEndpoint(Endpoint):
    @property
    def _betas(self) -> list[str]:
        return self.request.headers.get_list("anthropic-beta")

    def _name_what_was_done(self, model_id: str, ignored: Sequence[str]) -> None:
        self.set_header("nbllama-model", header_value(model_id))
        if ignored:
            self.set_header("nbllama-ignored", header_value(", ".join(ignored)))


class _AnswerEndpoint(_ModelEndpoint):
    async def _answer(self, accepting: Coroutine[Any, Any, Answer]) -> None:
        answer = await self.while_connected(accepting)
        self._name_what_was_done(answer.model_id, answer.ignored)
        if answer.stream:
            await send_events(self, answer)
        else:
            self.answer_json(await self.while_connected(answer.message(), on_gone=answer.cancel))


class MessagesEndpoint(_AnswerEndpoint):
    async def post(self) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.request():
            accepting = self.worker.service.messages(
                self.body(),
                client=self.client,
                request_id=self.request_id,
                default_model=self.default_model,
                betas=self._betas,
            )
            await self._answer(accepting)


class ForkEndpoint(_AnswerEndpoint):
    """`{"index": n, "token": id, …}`: the answer of a trace, gone on with from another token (`wire/forks.py`)."""

    async def post(self, id: str) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.request():
            forking = self.worker.service.fork(id, self.body(), client=self.client, request_id=self.request_id)
            await self._answer(forking)


class CountTokensEndpoint(_ModelEndpoint):
    async def post(self) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.request():
            counting = self.worker.service.counted(
                self.body(), client=self.client, default_model=self.default_model, betas=self._betas
            )
            counted = await self.while_connected(counting)
            self._name_what_was_done(counted.model_id, counted.ignored)
            n_tokens = counted.input_tokens
            edited = {"context_management": {"original_input_tokens": n_tokens}} if counted.edits_context else {}
            self.answer_json({"input_tokens": n_tokens, **edited})


class ModelsEndpoint(Endpoint):
    def get(self) -> None:
        query = {name: self.get_query_argument(name, None) for name in ("limit", "after_id", "before_id")}
        lifecycle = [*self.get_query_arguments("lifecycle[]"), *self.get_query_arguments("lifecycle")]
        models = in_lifecycle(self.worker.service.models(), lifecycle)
        self.answer_json(page_of(models, **query, lenient=self.worker.service.lenient))


class ModelEndpoint(Endpoint):
    def get(self, id: str) -> None:
        self.answer_json(self.worker.service.model(id))


class HandshakeEndpoint(Endpoint):
    def get(self) -> None:
        self.answer_json(self.worker.identity.handshake())


class StatusEndpoint(Endpoint):
    def get(self) -> None:
        lifecycle = self.worker.lifecycle
        state = {
            "attached": lifecycle.attached,
            "attached_as": dict(+lifecycle.attached_as),
            "stopping": lifecycle.stopping.is_set(),
        }
        self.answer_json(self.worker.service.status() | self.worker.identity.status() | state)


class TraceEndpoint(Endpoint):
    def get(self, id: str) -> None:
        self.set_header("content-type", "application/json")
        self.finish(self.worker.service.trace_data(id, self.client))


class RequestsEndpoint(Endpoint):
    def get(self) -> None:
        self.answer_json({"requests": self.worker.service.requests(self.client)})


class CancelEndpoint(Endpoint):
    """Takes no body. The cancelled request itself ends in an error that says so."""

    def post(self, id: str) -> None:
        self.json_body()
        self.answer_json(self.worker.service.cancel(id, self.client))


class LoadEndpoint(Endpoint):
    """`{"model": REF, "ctx": tokens?}`. Answers when the model is loaded, and loads on when the client goes."""

    async def post(self) -> None:
        with self.worker.lifecycle.request():
            body = self.json_body()
            model, ctx = _text(body, "model"), _count(body, "ctx")
            self.worker.policy.check_load(model, ctx)
            self.answer_json(await self.worker.service.load(model, ctx=ctx))


class UnloadEndpoint(Endpoint):
    """`{"model": ID}`."""

    async def post(self) -> None:
        with self.worker.lifecycle.request():
            self.answer_json(await self.worker.service.unload(_text(self.json_body(), "model")))


class TokenizeEndpoint(Endpoint):
    """`{"text": str, "model": ID?}`."""

    async def post(self) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.request():
            self.answer_json(await self.while_connected(self.worker.service.tokenize(self.json_body())))


class FormatEndpoint(Endpoint):
    """`?model=ID`; without it, the default."""

    async def get(self) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.request():
            described = self.worker.service.format(self.get_query_argument("model", ""))
            self.answer_json(await self.while_connected(described))


class AttachEndpoint(Endpoint):
    """Held open as long as the client is there; a newline now and then keeps proxies from closing it."""

    async def get(self) -> None:
        with contextlib.suppress(ClientGone), self.worker.lifecycle.attachment(self._kind()):
            self.set_header("content-type", "text/plain; charset=utf-8")
            self.set_header("cache-control", "no-store")
            await self.while_connected(self._hold())

    def _kind(self) -> str:
        kind = self.request.headers.get(ATTACHED_AS_HEADER, "")
        return kind if kind in ATTACHED_KINDS else OTHER

    async def _hold(self) -> None:
        while True:
            # The first flush tells the client that it counts.
            self.write("\n")
            await self.flush()
            await asyncio.sleep(KEEP_ALIVE_SECONDS)


class StopEndpoint(Endpoint):
    """Drains and ends the worker; with `{"if_idle": true}` only if nobody is attached and nothing runs."""

    async def post(self) -> None:
        lifecycle = self.worker.lifecycle
        if not self.json_body().get("if_idle") or await lifecycle.wait_idle(LEAVING_SECONDS):
            lifecycle.stop()
        self.answer_json({"stopping": lifecycle.stopping.is_set(), "pid": self.worker.identity.pid})


def header_value(text: str) -> str:
    """Text as a header can carry it: file names and field names may hold anything."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name}: Field required")
    return value


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidRequest(f"{name}: Input should be a positive whole number")
    return value
