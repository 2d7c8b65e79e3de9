"""Two requests, token by token: up to where they are the same, and what stands where they part. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nbllama.views.reading import Origin, Reading, Record

AROUND = 80
"""Characters of each prompt that are shown before and behind the place where they part."""


class Comparison:
    """What `after` could have kept of `before`, and what it did keep. Counts in tokens."""

    def __init__(self, before: Record, after: Record) -> None:
        self.before = Reading(before)
        self.after = Reading(after)

    @cached_property
    def shared(self) -> int:
        """The index of the first token that differs from the earlier prompt and its answer."""
        return _common([*self.before.prompt_ids, *self.before.output_ids], self.after.prompt_ids)

    @property
    def cached(self) -> int:
        return self.after.cached_tokens

    @property
    def goes_on(self) -> bool:
        """Whether the whole earlier prompt begins the later one."""
        return self.shared >= len(self.before.prompt_ids)

    @property
    def in_answer(self) -> bool:
        """Whether they part inside what was the earlier one's answer."""
        whole = len(self.before.prompt_ids) + len(self.before.output_ids)
        return self.goes_on and self.shared < min(whole, len(self.after.prompt_ids))

    @property
    def not_kept(self) -> int:
        """Tokens that are the same and were computed again all the same. A prompt's last token always is."""
        return max(0, min(self.shared, len(self.after.prompt_ids) - 1) - self.cached)

    @property
    def lost(self) -> int:
        """Tokens that were computed a second time, though something like them had been computed before."""
        n_before, n_after = len(self.before.prompt_ids), len(self.after.prompt_ids)
        best = min(n_before + len(self.before.output_ids), n_after) if self.goes_on else min(n_before, n_after)
        return max(0, min(best, n_after - 1) - self.cached)

    @property
    def seconds_lost(self) -> float | None:
        """At the pace at which the later prompt was computed; None where that is not recorded."""
        computed = len(self.after.prompt_ids) - self.cached
        prefill = self.after.timings.get("prefill_s")
        return None if prefill is None or computed <= 0 else round(self.lost * prefill / computed, 6)

    @cached_property
    def texts(self) -> tuple[str, str]:
        """The earlier prompt with its answer, and the later prompt."""
        return self.before.text("prompt") + self.before.text("output_text"), self.after.text("prompt")

    @cached_property
    def place(self) -> int:
        """The first character that differs. Of masked texts, where both may be covered there, as the tokens tell."""
        place, offsets = _common(*self.texts), self.after.offsets
        covered = self.after.masked and offsets and self.shared < len(offsets)
        return min(place, offsets[self.shared]) if covered and offsets else place

    @cached_property
    def origins(self) -> tuple[Origin | None, Origin | None]:
        """Who wrote what stands there, before and after; None behind the end, or where it is not recorded."""
        earlier = _origin_at(self.before, self.place)
        if earlier is None and self.place >= len(self.before.text("prompt")) and self.before.text("output_text"):
            earlier = Origin("answer")
        return earlier, _origin_at(self.after, self.place)

    @property
    def kinds(self) -> set[str]:
        return {origin.kind for origin in self.origins if origin is not None}

    @property
    def where(self) -> str:
        """The block that caused it, in words."""
        before, after = self.origins
        origin = after or before
        return origin.label if origin else "an unknown place"

    @cached_property
    def lines(self) -> tuple[str, str]:
        """The line in which they part, before and after."""
        first, second = (_line_at(text, self.place) for text in self.texts)
        return first, second

    @property
    def excerpts(self) -> tuple[str, str, str]:
        """(the same before, then the earlier one, then the later one)."""
        first, second = self.texts
        at = self.place
        return second[max(0, at - AROUND) : at], first[at : at + AROUND], second[at : at + AROUND]

    @property
    def in_head(self) -> bool:
        """Whether they part before the first message: in the system prompt, the tools or the template's words there."""
        starts = [_first_message(reading) for reading in (self.before, self.after)]
        return all(start is None or self.place < start for start in starts)

    def requests(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return self.before.mapping("request"), self.after.mapping("request")

    def lists(self, name: str) -> tuple[list[Any], list[Any]]:
        """A list in both requests, `messages` or `tools`; empty where there is none."""
        first, second = (request.get(name) for request in self.requests())
        return first if isinstance(first, list) else [], second if isinstance(second, list) else []


def text_of(content: Any) -> str:
    """The text of a `system` or of a message's content, blocks joined by line ends."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, Mapping))


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How long their common beginning is, by halves: 100,000 characters one by one are a tenth of a second."""
    same, most = 0, min(len(first), len(second))
    while same < most:
        middle = (same + most + 1) // 2
        if first[same:middle] == second[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def _origin_at(reading: Reading, place: int) -> Origin | None:
    return next((origin for start, end, origin in reading.spans if start <= place < end), None)


def _first_message(reading: Reading) -> int | None:
    # A system message of the conversation may have been moved to the front: it is not where the messages begin.
    spans = reading.spans
    return next((start for start, _, origin in spans if origin.message is not None and origin.kind != "system"), None)


def _line_at(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    return text[start : end if end >= 0 else len(text)]
