"""Speaks as a worker, out of a tape: kernels and doors reach it as they reach a worker, and need no code for it.

What a recording cannot tell (loading, tokenising) is refused in one sentence.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from nbllama._version import __version__
from nbllama.cassettes.http_server import LocalHandler, LocalServer
from nbllama.cassettes.played import Played, refused
from nbllama.cassettes.recorded import RETRY_HEADERS
from nbllama.cassettes.tape import Take, Tape
from nbllama.views import every
from nbllama.views.page import POLICY, list_page, page, view_page
from nbllama.wire.answers import model_info
from nbllama.wire.cassette_file import COUNT_TOKENS, MESSAGES
from nbllama.wire.errors import ApiError, InvalidRequest, NotFound
from nbllama.wire.events import Ping
from nbllama.wire.records import SCHEMA_VERSION, RequestRecord
from nbllama.wire.sse import encode, encode_data
from nbllama.wire.validation import parse_json
from nbllama.worker.connection import PROTOCOL

PING_S = 10.0
"""Seconds of silence after which a ping is sent, as from a worker."""
MOST_TRACES = 200
_KEEP_ALIVE_S = 30.0
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class Player(LocalServer):
    """`speed` 1 keeps the recorded times, 4 is four times as fast, 0 is at once."""

    def __init__(self, tape: Tape, speed: float = 1.0) -> None:
        self.tape = tape
        self.speed = speed
        self.began = monotonic()
        self._traces: OrderedDict[str, RequestRecord] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(PlayerHandler)

    def keep(self, record: RequestRecord) -> None:
        with self._lock:
            self._traces[record.id] = record
            while len(self._traces) > MOST_TRACES:
                self._traces.popitem(last=False)

    def trace(self, id: str, client: str) -> RequestRecord:
        """Raises NotFound, also for another client's."""
        for record in self._own(client):
            if id in (record.id, record.message_id):
                return record
        raise NotFound(f"no trace {id}: it is another client's, was too old to keep, or never was")

    def summaries(self, client: str) -> list[dict[str, Any]]:
        return [record.summary() for record in self._own(client)]

    def _own(self, client: str) -> list[RequestRecord]:
        """Newest first."""
        with self._lock:
            return [record for record in reversed(self._traces.values()) if record.client == client]

    def models(self) -> list[dict[str, Any]]:
        """As they were told when it was recorded, those that answered first."""
        told = {str(model.get("id")): model for model in self.tape.cassette.models}
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.tape.cassette.created))
        answered = {id: told.get(id) or model_info(id, id, since) for id in self.tape.models}
        return list((answered | told).values())

    def status(self) -> dict[str, Any]:
        models = [{"id": id, "state": "replayed", "default": n == 0} for n, id in enumerate(self.tape.models)]
        return {
            "pid": self.endpoint.pid,
            "version": __version__,
            "protocol": PROTOCOL,
            "rss_bytes": 0,
            "uptime_s": round(monotonic() - self.began, 3),
            "requests_total": self.tape.n_played,
            "requests_running": 0,
            "requests_waiting": 0,
            "models": models,
            "replay": {
                "file": self.tape.name,
                "recordings": len(self.tape.cassette.exchanges),
                "played": self.tape.n_played,
                "speed": self.speed,
            },
        }


class PlayerHandler(LocalHandler):
    @property
    def player(self) -> Player:
        return cast("Player", self.server)

    def respond(self) -> None:
        route, reads = self.route, self.command in ("GET", "HEAD")
        if self.command == "POST" and route == MESSAGES:
            self._messages()
        elif self.command == "POST" and route == COUNT_TOKENS:
            self._count()
        elif reads and (answer := self._simple().get(route)) is not None:
            self.send_json(answer())
        elif reads and route == "/nbllama/attach":
            self._attach()
        elif reads and route.startswith("/v1/models/"):
            self._model(unquote(route.removeprefix("/v1/models/")))
        elif reads and f"{route}/".startswith("/nbllama/traces/"):
            self._traces([unquote(part) for part in route.split("/")[3:]])
        elif reads and route in ("/", "/api/hello"):
            self.send_bytes(b"", "text/plain")
        elif route.startswith("/nbllama/"):
            raise InvalidRequest(
                f"{self.player.tape.name} is replayed and no model is loaded, so there is no {route}: end the replay, "
                "in a notebook with `%llama replay off`"
            )
        else:
            raise NotFound(f"Not found: {route}")

    def _simple(self) -> dict[str, Callable[[], dict[str, Any]]]:
        player = self.player
        pid = player.endpoint.pid
        return {
            "/v1/models": self._models,
            "/nbllama/handshake": lambda: {"protocol": PROTOCOL, "version": __version__, "pid": pid},
            "/nbllama/status": player.status,
            "/nbllama/requests": lambda: {"requests": []},
        }

    def _models(self) -> dict[str, Any]:
        models = self.player.models()
        ids = [model["id"] for model in models]
        ends = {"first_id": ids[0], "last_id": ids[-1]} if ids else {"first_id": None, "last_id": None}
        return {"data": models, "has_more": False, **ends}

    def _model(self, id: str) -> None:
        for model in self.player.models():
            if model["id"] == id:
                return self.send_json(model)
        raise NotFound(f"model: {id}")

    def _traces(self, parts: list[str]) -> None:
        player, client = self.player, self.client
        if not parts:
            summaries = player.summaries(client)
            if "text/html" in self.headers.get("accept", ""):
                return self._page(list_page(summaries))
            return self.send_json({"traces": summaries})
        record = player.trace(parts[0], client)
        if len(parts) == 1:
            return self.send_json({"schema_version": SCHEMA_VERSION, **asdict(record), "replayed": player.tape.name})
        named = parse_qs(urlsplit(self.path).query).get("with", [])
        before = asdict(player.trace(named[0], client)) if named else None
        if parts[1:] == ["page"]:
            return self._page(page(asdict(record), before=before))
        if len(parts) > 2 or parts[1] not in every.NAMES:
            raise NotFound(f"no view {parts[1]}: there are {', '.join((*every.NAMES, 'page'))}")
        self._page(view_page(every.view_of(parts[1], asdict(record), before=before), record.id))

    def _page(self, html: str) -> None:
        headers = {"content-security-policy": f"{POLICY}; frame-ancestors 'self'", "x-content-type-options": "nosniff"}
        headers |= {"referrer-policy": "no-referrer", "cache-control": "no-store"}
        self.send_bytes(html.encode(errors="replace"), "text/html; charset=utf-8", headers=headers)

    def _attach(self) -> None:
        """Held open as long as the client is there."""
        self.begin_chunks({"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"})
        self.chunk(b"\n")
        while not self.gone_within(_KEEP_ALIVE_S):
            self.chunk(b"\n")

    def _count(self) -> None:
        body = parse_json(self.body)
        take = self.player.tape.take(COUNT_TOKENS, body)
        exchange, answer = take.exchange, dict(take.exchange.answer or {})
        if exchange.status >= 400:
            answer["request_id"] = self.request_id
        self.send_json(answer, exchange.status, self._said(take))

    def _messages(self) -> None:
        body = parse_json(self.body)
        try:
            take = self.player.tape.take(MESSAGES, body)
        except ApiError as error:
            self.player.keep(refused(error, body, self.request_id, self.client))
            raise
        played = Played(take, body, self.request_id, self.client, self._note(take, body))
        if (refusal := played.refusal) is not None:
            self.player.keep(played.record())
            self.send_json(refusal, take.exchange.status, self._said(take))
        elif body.get("stream") is True:
            self._stream(played)
        else:
            self._whole(played)

    def _stream(self, played: Played) -> None:
        sent = 0
        try:
            self.begin_chunks({**_STREAM_HEADERS, **self._said(played.take)})
            began = monotonic()
            for seconds, event in played.events:
                if self._wait_until(began, seconds):
                    return
                sent += 1
                if sent == len(played.events):
                    # Now: who has read the last event may ask for the trace.
                    self.player.keep(played.record())
                self.chunk(encode_data(event["type"], event))
            self.end_chunks()
        finally:
            if sent < len(played.events):
                self.player.keep(played.record(sent))

    def _wait_until(self, began: float, seconds: float) -> bool:
        """Waits for the time of an event, with pings as a worker sends them; says whether the client has left."""
        speed = self.player.speed
        while speed > 0 and (rest := began + seconds / speed - monotonic()) > 0:
            if self.gone_within(min(rest, PING_S)):
                return True
            if rest > PING_S:
                self.chunk(encode(Ping()))
        return self.gone_within(0)

    def _whole(self, played: Played) -> None:
        speed = self.player.speed
        if speed > 0 and self.gone_within(played.total_s / speed):
            self.player.keep(played.record(0))
            return
        self.player.keep(played.record())
        self.send_json(played.message(), headers=self._said(played.take))

    def _said(self, take: Take) -> dict[str, str]:
        told = take.exchange.headers
        said = {name: told[name] for name in RETRY_HEADERS if name in told}
        said |= {"nbllama-replay": f"{self.player.tape.name}, recording {take.number}"}
        if take.exchange.model:
            said["nbllama-model"] = take.exchange.model
        if take.exchange.record is not None and take.exchange.record.ignored:
            said["nbllama-ignored"] = ", ".join(take.exchange.record.ignored)
        return said

    def _note(self, take: Take, body: dict[str, Any]) -> str:
        tape = self.player.tape
        again = ", once more" if take.again else ""
        note = f"replayed from {tape.name}, recording {take.number} of {len(tape.cassette.exchanges)}{again}"
        recorded, asked = take.exchange.request.get("model"), body.get("model")
        if asked not in (recorded, take.exchange.model):
            note += f"; it was recorded with {take.exchange.model or recorded}, asked for was {asked}"
        return note
