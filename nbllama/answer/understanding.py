"""Bodies → requests and the models that answer them, written into their records as far as they are understood."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from nbllama.answer.failures import to_api_error
from nbllama.answer.forking import Fork, check_whole, fork_of
from nbllama.answer.model_catalog import Entry, ModelCatalog
from nbllama.answer.signatures import Signer
from nbllama.answer.trace import TraceStore
from nbllama.wire.forks import fork_wish
from nbllama.wire.ignored import ignored_betas
from nbllama.wire.records import RequestRecord
from nbllama.wire.requests import (
    CountTokensRequest,
    MessagesRequest,
    messages_request,
    parse_count_tokens_request,
)
from nbllama.wire.validation import parse_json

T = TypeVar("T")

# Parsing is linear, but 8 MB of small blocks take 2.6 s: beyond this size other streams must go on meanwhile.
PARSE_ASIDE_BYTES = 1 << 20


class Understanding:
    """What is the same for every request of a service. Each method raises the ApiError that refuses a request."""

    def __init__(self, catalog: ModelCatalog, traces: TraceStore, signer: Signer, *, lenient: bool) -> None:
        self._catalog, self._traces, self._signer = catalog, traces, signer
        self.lenient = lenient

    async def message(
        self, body: bytes, record: RequestRecord, default_model: str | None, betas: Sequence[str]
    ) -> tuple[MessagesRequest, Entry, None]:
        """A request that begins with its messages."""
        sent = await _parsed(parse_json, body)
        record.request, record.warnings = self._traces.request(sent, len(body))
        record.stream = sent.get("stream") is True
        record.model = model if isinstance(model := sent.get("model"), str) else ""
        read = functools.partial(messages_request, sent, lenient=self.lenient)
        request = read() if len(body) < PARSE_ASIDE_BYTES else await asyncio.to_thread(read)
        request.ignored.extend(ignored_betas(betas))
        record.ignored = list(request.ignored)
        record.warnings += self._signer.check(request)
        return request, self.entry(request.model, default_model), None

    async def fork(self, id: str, body: bytes, record: RequestRecord) -> tuple[MessagesRequest, Entry, Fork]:
        """A request that goes on from a token of an earlier answer."""
        wish = fork_wish(await _parsed(parse_json, body))
        origin = RequestRecord.from_dict(self._traces.get(id, record.client))
        record.model, record.stream = origin.model, wish.stream
        check_whole(origin)
        record.request = wish.applied(origin.request)
        # Aside: nobody knows how large the forked request was.
        request = await asyncio.to_thread(messages_request, record.request, lenient=self.lenient)
        record.ignored = list(request.ignored)
        fork = fork_of(origin, wish, request)
        return request, self._catalog.still_loaded(origin.model_id, origin.model_hash), fork

    async def counting(self, body: bytes, default_model: str | None) -> tuple[CountTokensRequest, Entry]:
        """A request to count a prompt. It leaves no record."""
        request = await _parsed(functools.partial(parse_count_tokens_request, lenient=self.lenient), body)
        self._signer.check(request)
        return request, self.entry(request.model, default_model)

    def entry(self, model_id: str, default_ref: str | None = None) -> Entry:
        """The model of that id, or the default one."""
        try:
            return self._catalog.named(model_id, default_ref)
        except Exception as error:
            raise to_api_error(error) from error


async def _parsed(parse: Callable[[bytes], T], body: bytes) -> T:
    return parse(body) if len(body) < PARSE_ASIDE_BYTES else await asyncio.to_thread(parse, body)
