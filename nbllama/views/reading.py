"""A record as the views read it: what is missing, or is not what it should be, is None or empty and never an error.

A record may be of an older version, of a file that somebody sent, or cut because it was too large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nbllama.views import masking
from nbllama.wire.records import RequestRecord

NOT_RECORDED = "not recorded"

Record = RequestRecord | Mapping[str, Any]

MOST = 1 << 53
"""No number of a record is larger: such ones are neither seconds nor counts, and a picture would have no end."""
_KIND_CHARS = 40


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a token. `kind` is template, system, tools, user, assistant, tool_result, prefill or answer."""

    kind: str
    message: int | None = None
    block: int | None = None

    @property
    def label(self) -> str:
        """ "user, message 2, block 0"."""
        place = "" if self.message is None else f", message {self.message}"
        return f"{self.kind}{place}" + ("" if self.block is None else f", block {self.block}")


UNKNOWN = Origin("unknown")


class Reading:
    """What one record says, with types that hold."""

    def __init__(self, record: Record) -> None:
        self.data: Mapping[str, Any] = record.to_dict() if isinstance(record, RequestRecord) else record

    def text(self, name: str) -> str:
        value = self.data.get(name)
        return value if isinstance(value, str) else ""

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.data.get(name)
        return value if isinstance(value, Mapping) else {}

    def mappings(self, name: str) -> list[Mapping[str, Any]]:
        value = self.data.get(name)
        return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []

    def number(self, name: str) -> float | None:
        return number(self.data.get(name))

    @property
    def model(self) -> str:
        """Which model answered; of an older record, or where none was reached, what was asked for."""
        return self.text("model_id") or self.text("model")

    @property
    def masked(self) -> bool:
        return bool(self.data.get("masked"))

    @cached_property
    def warnings(self) -> list[str]:
        return self.texts("warnings")

    def texts(self, name: str) -> list[str]:
        value = self.data.get(name)
        return [str(one) for one in value] if isinstance(value, list) else []

    @cached_property
    def timings(self) -> dict[str, float]:
        found = {name: number(value) for name, value in self.mapping("timings").items()}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def prompt_ids(self) -> list[int]:
        return _whole_numbers(self.data.get("prompt_ids"))

    @cached_property
    def output_ids(self) -> list[int]:
        return _whole_numbers(self.data.get("output_ids"))

    @cached_property
    def offsets(self) -> list[int] | None:
        """For each prompt token the character of the prompt where it begins."""
        found = _whole_numbers(self.data.get("prompt_offsets"))
        return found if found and len(found) == len(self.prompt_ids) else None

    @cached_property
    def cached_tokens(self) -> int:
        return min(max(int(self.number("cached_tokens") or 0), 0), len(self.prompt_ids))

    @cached_property
    def special(self) -> frozenset[int] | None:
        value = self.data.get("special")
        return frozenset(_whole_numbers(value)) if isinstance(value, list) and self._pieces else None

    @cached_property
    def token_times(self) -> list[float] | None:
        """Seconds since the request was accepted, one for each token of the answer."""
        found = _numbers(self.data.get("token_times"))
        return found if found and len(found) == len(self.output_ids) else None

    @cached_property
    def events(self) -> list[tuple[float | None, Any]]:
        """(seconds, event) as they are, also where they are no events."""
        value = self.data.get("events")
        return [as_timed(one) for one in value] if isinstance(value, list) else []

    @cached_property
    def spans(self) -> list[tuple[int, int, Origin]]:
        """[start, end) in characters of the prompt, in order."""
        found = []
        for span in self.mappings("spans"):
            start, end = whole_number(span.get("start")), whole_number(span.get("end"))
            if start is not None and end is not None:
                kind = str(span.get("kind", "unknown"))[:_KIND_CHARS]
                message, block = whole_number(span.get("message")), whole_number(span.get("block"))
                found.append((start, end, Origin(kind, message, block)))
        return sorted(found, key=lambda one: one[:2])

    def piece(self, id: int) -> bytes | None:
        """The bytes of a token; None where they are not recorded."""
        return self._pieces.get(id)

    @property
    def has_pieces(self) -> bool:
        return bool(self._pieces)

    @cached_property
    def prompt_origins(self) -> list[Origin]:
        """For each prompt token the span in which it begins; empty where that is not recorded."""
        if self.offsets is None or not self.spans:
            return []
        origins, at, spans = [], 0, self.spans
        for offset in self.offsets:
            while at < len(spans) - 1 and spans[at][1] <= offset:
                at += 1
            inside = spans[at][0] <= offset < spans[at][1]
            # A BOS that the prompt does not spell begins where the prompt does.
            origins.append(spans[at][2] if inside else Origin("template"))
        return origins

    @cached_property
    def hidden(self) -> tuple[frozenset[int], frozenset[int]]:
        """Of a masked record the prompt's and the answer's tokens that spell a key or a path."""
        if not self.masked:
            return frozenset(), frozenset()
        return self._hidden(self.prompt_ids), self._hidden(self.output_ids)

    def _hidden(self, ids: Sequence[int]) -> frozenset[int]:
        pieces = [self.piece(id) or b"" for id in ids]
        ranges = list(masking.find(b"".join(pieces).decode("latin-1")))
        found, at, start = set(), 0, 0
        for index, piece in enumerate(pieces):
            end = start + len(piece)
            while at < len(ranges) and ranges[at][1] <= start:
                at += 1
            if at < len(ranges) and ranges[at][0] < end:
                found.add(index)
            start = end
        return frozenset(found)

    @cached_property
    def _pieces(self) -> dict[int, bytes]:
        found = {}
        for id, digits in self.mapping("pieces").items():
            try:
                found[int(id)] = bytes.fromhex(digits)
            except (ValueError, TypeError):
                continue
        return found


def as_timed(value: Any) -> tuple[float | None, Any]:
    """An entry of `events`, [seconds, event], or an event alone."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return number(value[0]), value[1]
    return None, value


def number(value: Any) -> float | None:
    """A number that can be counted with; None for infinity, for what is no number, and for what is too large."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST
    return float(value) if good else None


def whole_number(value: Any) -> int | None:
    return value if type(value) is int and -MOST <= value <= MOST else None


def _numbers(value: Any) -> list[float]:
    found = [number(one) for one in value] if isinstance(value, list) else []
    return [] if None in found else [one for one in found if one is not None]


def _whole_numbers(value: Any) -> list[int]:
    good = isinstance(value, list) and all(type(one) is int and -MOST <= one <= MOST for one in value)
    return value if good else []
