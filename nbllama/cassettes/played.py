"""A recording as an answer: its events, its Message, its error, and the trace that it leaves. Pure."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from typing import Any

from nbllama.cassettes.recorded import TERMINAL
from nbllama.cassettes.tape import Take
from nbllama.wire.answers import new_id
from nbllama.wire.cassette_file import Exchange
from nbllama.wire.errors import ERRORS_BY_TYPE, ApiError, ServerFault
from nbllama.wire.records import RequestRecord


@dataclass
class Played:
    """A message that is played. `request` is what was asked now, `request_id` its id, `note` says where it is from.

    The first playing has the ids of the recording, so that a lesson shows the same each time; a later one has ids of
    its own, as one conversation may hold both."""

    take: Take
    request: dict[str, Any]
    request_id: str
    client: str
    note: str
    created: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        record = self.take.exchange.record
        events = copy.deepcopy(record.events) if record is not None else []
        if self.take.again:
            _renew(events)
        if events and events[-1][1]["type"] not in TERMINAL:
            cut = ServerFault("The recording of this answer ends here: it was broken off", should_retry=False)
            events.append([events[-1][0], cut.body()])
        for _, event in events:
            if event["type"] == "error" and "request_id" in event:
                event["request_id"] = self.request_id
        self.events: list[list[Any]] = events

    @property
    def exchange(self) -> Exchange:
        return self.take.exchange

    @property
    def refusal(self) -> dict[str, Any] | None:
        """The body of an answer that was no stream: an error."""
        answer = self.exchange.answer
        return None if answer is None else {**answer, "request_id": self.request_id}

    @property
    def error(self) -> ApiError | None:
        """What a client that does not stream is told of an answer that failed on its way."""
        last = self.events[-1][1] if self.events else {}
        return error_of(last) if last.get("type") == "error" else None

    @property
    def total_s(self) -> float:
        """Seconds until the last event."""
        return float(self.events[-1][0]) if self.events else 0.0

    def message(self) -> dict[str, Any]:
        """The whole answer. Raises ApiError where it failed on its way."""
        if (error := self.error) is not None:
            raise error
        record = self.exchange.record
        message = copy.deepcopy(record.message) if record is not None else None
        start = _start(self.events)
        if message is None or start is None:
            raise ServerFault("The recording holds no whole Message; ask with `stream`", should_retry=False)
        message["id"] = start["id"]
        calls = iter(_calls(self.events))
        for block in message["content"]:
            if _is_call(block) and (call := next(calls, None)) is not None:
                block["id"] = call["id"]
        return message

    def record(self, n_events: int | None = None) -> RequestRecord:
        """The trace of this playing, with the times of the recording; cut where the client left after `n_events`."""
        kept = self.exchange.record or _empty(self.exchange)
        cut = n_events is not None and n_events < len(self.events)
        events = self.events[:n_events] if cut else self.events
        start = _start(events)
        record = replace(
            kept,
            id=self.request_id,
            message_id=start["id"] if start is not None else new_id("msg"),
            client=self.client,
            model=str(self.request.get("model") or ""),
            created=self.created,
            stream=self.request.get("stream") is True,
            request=self.request,
            events=events,
            warnings=[self.note, *kept.warnings],
        )
        if cut:
            return _cut(record)
        if self.error is None and start is not None and kept.message is not None:
            record.message = self.message()
        return record


def error_of(body: dict[str, Any], headers: dict[str, str] | None = None) -> ApiError:
    """The error of an error's body, to be told as JSON with a status."""
    told = body.get("error") or {}
    kind = ERRORS_BY_TYPE.get(str(told.get("type")), ServerFault)
    details = told.get("details")
    return kind(str(told.get("message")), details=details if isinstance(details, dict) else None)


def refused(error: ApiError, request: dict[str, Any], request_id: str, client: str) -> RequestRecord:
    """The trace of a request that nothing was played for."""
    return RequestRecord(
        id=request_id,
        message_id=new_id("msg"),
        client=client,
        model=str(request.get("model") or ""),
        created=time.time(),
        stream=request.get("stream") is True,
        request=request,
        ending="error",
        error=error.body()["error"],
    )


def _empty(exchange: Exchange) -> RequestRecord:
    """Of an error that nobody has a trace of."""
    error = error_of(exchange.answer or {})
    return refused(error, exchange.request, "", "local")


def _cut(record: RequestRecord) -> RequestRecord:
    """As a worker leaves it when its client goes: what was there until then."""
    until = record.events[-1][0] if record.events else 0.0
    n = sum(at <= until for at in record.token_times)
    return replace(
        record,
        message=None,
        ending="cancelled",
        output_ids=record.output_ids[:n],
        token_times=record.token_times[:n],
        probabilities=record.probabilities[:n],
        timings={**record.timings, "total_s": until},
    )


def _start(events: list[list[Any]]) -> dict[str, Any] | None:
    """The Message as it begins; None of a stream that was broken, which can be recorded like any other."""
    told = (event.get("message") for _, event in events if event["type"] == "message_start")
    return next((one for one in told if isinstance(one, dict) and isinstance(one.get("id"), str)), None)


def _renew(events: list[list[Any]]) -> None:
    if (start := _start(events)) is not None:
        start["id"] = new_id("msg")
    for block in _calls(events):
        block["id"] = new_id("toolu" if block.get("type") == "tool_use" else "srvtoolu")


def _calls(events: list[list[Any]]) -> list[dict[str, Any]]:
    blocks = (event.get("content_block") for _, event in events if event["type"] == "content_block_start")
    return [block for block in blocks if isinstance(block, dict) and _is_call(block)]


def _is_call(block: dict[str, Any]) -> bool:
    return str(block.get("type")).endswith("tool_use") and isinstance(block.get("id"), str)
