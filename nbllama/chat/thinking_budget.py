"""A budget for thinking, enforced while it is generated: at its end the model is led out, in its own format.

With a budget of nothing there is no thinking: what is one token cannot be drawn, and what is text, or was opened by
the prompt, is closed at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple

from nbllama.chat.format import Format

# More than any draft is long.
_MOST_TAKEN_BACK = 256
# A token ends inside of a character at most three bytes before its end: no waiting for what never comes.
_MOST_BYTES_LATE = 3
_SPACE = b" \t\r\n"


class _State(NamedTuple):
    """After one token. `window` is what may still become a marker; `at`: so many tokens of the end are written, or
    None while the model writes itself."""

    mode: Literal["fresh", "thinking", "text"]
    n_tokens: int
    window: bytes
    at: int | None


class ThinkingBudget:
    """The engine's `Guide`. `budget` counts the tokens of all the thinking of an answer.

    `end` is what `thinking_end` says, `is_open` whether the prompt has opened thinking. `tokenize` makes ids of the
    end, control tokens included.
    """

    def __init__(
        self,
        format: Format,
        end: str,
        *,
        budget: int,
        is_open: bool,
        tokenize: Callable[[str], list[int]],
        piece: Callable[[int], bytes],
    ) -> None:
        think = format.think
        if think is None:
            raise ValueError("a format without thinking needs no budget")
        self._open = think.open.strip().encode()
        self._close = think.close.strip().encode()
        self._anywhere = format.channels is not None
        self._call_ends = _call_ends(format)
        self._budget = budget
        self._piece = piece
        self._end = _ids(end, tokenize, piece)
        opening = tokenize(think.open.strip()) if think.open.strip() else []
        self._forbidden = opening if budget == 0 and len(opening) == 1 else []
        self._longest = max(map(len, (self._open, self._close, *self._call_ends)), default=0) + 16
        first = _State("thinking" if is_open or not self._open else "fresh", 0, b"", None)
        self._states = deque([self._forcing(first)], maxlen=_MOST_TAKEN_BACK)

    @property
    def stop(self) -> str | None:
        """Never: an answer follows."""
        return None

    def mask(self, row: Any) -> None:
        """Leaves nothing but the next token of the end, once the budget is spent."""
        at = self._states[-1].at
        if at is not None:
            kept = row[self._end[at]]
            row[:] = -float("inf")
            row[self._end[at]] = kept if kept > -float("inf") else 0.0
        elif self._forbidden:
            row[self._forbidden] = -float("inf")

    def forced(self) -> Sequence[int]:
        """What is left of the end."""
        at = self._states[-1].at
        return () if at is None else self._end[at:]

    def accept(self, ids: Sequence[int]) -> None:
        """Advances past tokens."""
        for id in ids:
            self._states.append(self._after(self._states[-1], id))

    def rollback(self, n: int) -> None:
        """Takes back the last `n` accepted tokens."""
        for _ in range(min(n, len(self._states) - 1)):
            self._states.pop()

    def possible(self, ids: Collection[int]) -> Collection[int]:
        """Those of `ids` that may come next."""
        at = self._states[-1].at
        return [id for id in ids if (id not in self._forbidden if at is None else id == self._end[at])]

    def _after(self, state: _State, id: int) -> _State:
        at = state.at
        if at is not None:
            at = at + 1 if id == self._end[at] else None
            at = None if at == len(self._end) else at
        counted = state.n_tokens + (state.mode == "thinking")
        read = self._read(state.mode, state.window + self._piece(id))
        after = _State(read[0], counted, read[1], at if read[0] == "thinking" else None)
        return self._forcing(after)

    def _forcing(self, state: _State) -> _State:
        spent = state.mode == "thinking" and state.at is None and state.n_tokens >= self._budget
        return state._replace(at=0) if spent and self._end and not _inside_character(state.window) else state

    def _read(self, mode: Literal["fresh", "thinking", "text"], data: bytes) -> tuple[Any, bytes]:
        """Where the markers in `data` lead to, and what of it may be the beginning of a further one."""
        while True:
            if mode == "thinking":
                found = data.find(self._close)
                if found < 0:
                    return mode, data[-self._longest :]
                mode, data = "fresh", data[found + len(self._close) :]
            elif mode == "fresh":
                begun = data.lstrip(_SPACE)
                if begun.startswith(self._open) and self._open:
                    mode, data = "thinking", begun[len(self._open) :]
                elif self._open.startswith(begun):
                    return mode, begun
                else:
                    mode = "text"
            else:
                ends = [(place, end) for end in self._call_ends if (place := data.find(end)) >= 0]
                if not ends:
                    return mode, data[-self._longest :]
                place, end = min(ends)
                mode, data = ("thinking" if end == self._open else "fresh"), data[place + len(end) :]


def _call_ends(format: Format) -> list[bytes]:
    """After which thinking counts again; in channels the header of thinking itself, which counts anywhere."""
    if format.channels is not None:
        return [format.think.open.strip().encode()] if format.think and format.think.open.strip() else []
    calls = format.calls
    return [text.strip().encode() for text in ((calls.close, calls.section_close) if calls else ()) if text.strip()]


def _ids(end: str, tokenize: Callable[[str], list[int]], piece: Callable[[int], bytes]) -> list[int]:
    ids = tokenize(end)
    # A vocabulary that begins each text with a space puts one before the line break.
    return ids if b"".join(map(piece, ids)) == end.encode() else tokenize(end.strip())


def _inside_character(data: bytes) -> bool:
    """Whether the last character is not whole yet."""
    for back in range(1, min(_MOST_BYTES_LATE, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            return byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False
