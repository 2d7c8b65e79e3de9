"""What a request adds to the cache, as the API counts it: the prompt up to the last breakpoint that was not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nbllama.chat.prompt import Prompt
from nbllama.wire.caching import Breakpoint


@dataclass(frozen=True, slots=True)
class Kept:
    """Tokens of the prompt up to the last breakpoint of each duration; 0: there is none. One hour comes first."""

    one_hour: int = 0
    five_minutes: int = 0

    def created(self, cached: int) -> tuple[int, int]:
        """(tokens kept for five minutes, for an hour) beyond the `cached` ones that were read."""
        one_hour = max(0, self.one_hour - cached)
        return max(0, self.five_minutes - max(cached, self.one_hour)), one_hour


def kept_tokens(
    points: Sequence[Breakpoint], prompt: Prompt, ids: Sequence[int], piece: Callable[[int], bytes]
) -> Kept:
    """Where the last breakpoints lie in `ids`: to the token, where the pieces spell the prompt."""
    ends = {ttl: _end([point for point in points if point.ttl == ttl], prompt) for ttl in ("1h", "5m")}
    counts = {ttl: _n_tokens(end, prompt, ids, piece) for ttl, end in ends.items()}
    return Kept(counts["1h"], counts["5m"])


def _end(points: Sequence[Breakpoint], prompt: Prompt) -> int:
    """The character behind the last of `points`, 0 if there is none."""
    return max((_end_of(point, prompt) for point in points), default=0)


def _end_of(point: Breakpoint, prompt: Prompt) -> int:
    if point.part == "messages":
        place = (point.message or 0, point.block)
        # What stands where says the prompt: results are moved before the text of their turn.
        before = [
            span.end
            for span in prompt.spans
            if span.origin.message is not None and (span.origin.message, span.origin.block or 0) <= place
        ]
        if before:
            return max(before)
    kinds = ("tools",) if point.part == "tools" else ("tools", "system")
    own = [span.end for span in prompt.spans if span.origin.kind in kinds and span.origin.message is None]
    return max(own, default=0)


def _n_tokens(end: int, prompt: Prompt, ids: Sequence[int], piece: Callable[[int], bytes]) -> int:
    if end == 0:
        return 0
    wanted, done = len(prompt.text[:end].encode(errors="replace")), 0
    # A BOS that the prompt does not spell is in front of it.
    if ids and not prompt.text.startswith(piece(ids[0]).decode(errors="replace")):
        done = -len(piece(ids[0]))
    for count, id in enumerate(ids, 1):
        done += len(piece(id))
        if done >= wanted:
            return count
    return len(ids)
