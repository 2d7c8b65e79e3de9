"""A cassette that is played: which recording answers a request, and what to say when none does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbllama.cassettes.same_request import Difference, differences, distance, normalised, text_of
from nbllama.wire.cassette_file import MESSAGES, Cassette, CassetteError, Exchange, decode
from nbllama.wire.errors import InvalidRequest


class NoRecording(InvalidRequest):
    """No recording answers this request. Asked again, it would be the same: nobody need retry."""


@dataclass(frozen=True, slots=True)
class Take:
    """One playing of a recording. `number` counts the file's recordings from 1; `again` if it was played before."""

    exchange: Exchange
    number: int
    again: bool


class Tape:
    """Safe from any thread. `name` is the file's, for what clients are told."""

    def __init__(self, cassette: Cassette, name: str) -> None:
        if not cassette.exchanges:
            raise CassetteError(f"{name} holds no recording: nothing was asked while it was recorded")
        self.cassette = cassette
        self.name = name
        self.n_played = 0
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str], list[int]] = {}
        self._requests = [normalised(exchange.request) for exchange in cassette.exchanges]
        for n, exchange in enumerate(cassette.exchanges):
            self._places.setdefault((exchange.path, text_of(self._requests[n])), []).append(n)
        self._next: dict[tuple[int, ...], int] = {}

    @classmethod
    def load(cls, path: Path) -> Tape:
        """Raises CassetteError, in one sentence, for whatever is wrong with the file."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CassetteError(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            return cls(decode(data, path.name), path.name)
        except RecursionError as error:
            raise CassetteError(f"{path.name} is no cassette: a request in it is nested too deeply") from error

    @property
    def models(self) -> list[str]:
        """The ids of those that answered, in the order of the recordings."""
        return list(dict.fromkeys(one.model for one in self.cassette.exchanges if one.path == MESSAGES and one.model))

    def take(self, path: str, request: Mapping[str, Any]) -> Take:
        """The next recording of this request: in the order of the file, then the last one again. Raises NoRecording.

        Among equal ones those of the model that is asked for are played; without one, those of any."""
        asked = normalised(request)
        places = self._places.get((path, text_of(asked)))
        if places is None:
            raise self._nothing(path, asked)
        exchanges, model = self.cassette.exchanges, request.get("model")
        own = [n for n in places if model in (exchanges[n].model, exchanges[n].request.get("model"))]
        chosen = tuple(own or places)
        with self._lock:
            n = self._next.get(chosen, 0)
            self._next[chosen] = n + 1
            self.n_played += 1
        place = chosen[min(n, len(chosen) - 1)]
        return Take(exchanges[place], place + 1, again=n >= len(chosen))

    def _nothing(self, path: str, asked: Mapping[str, Any]) -> NoRecording:
        anew = f"ask as it was recorded, or record anew with `%llama record {self.name}`"
        nearest: tuple[tuple[int, float], int, list[Difference]] | None = None
        for n, exchange in enumerate(self.cassette.exchanges):
            if exchange.path == path:
                found = differences(self._requests[n], asked)
                far = distance(found)
                if nearest is None or far < nearest[0]:
                    nearest = far, n, found
        if nearest is None:
            return NoRecording(f"{self.name} is replayed, and holds no recording of {path}: {anew}")
        _, n, found = nearest
        recorded, requested = found[0].shown()
        more = f", and {len(found) - 1} more fields differ" if len(found) > 1 else ""
        return NoRecording(
            f"{self.name} is replayed, and holds no recording of this request. The nearest is number {n + 1} of "
            f"{len(self.cassette.exchanges)}, which differs in {found[0].field}: recorded is {recorded}, asked was "
            f"{requested}{more}. To get an answer, {anew}",
            details={
                "error_code": "no_recording",
                "nearest": n + 1,
                "field": found[0].field,
                "recorded": recorded,
                "requested": requested,
                "fields": [one.field for one in found[:20]],
            },
        )
