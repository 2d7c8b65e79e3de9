"""What a parser has to say: pieces, with the space between them settled and what the prompt held left out."""

from __future__ import annotations

from collections.abc import Callable

from nbllama.chat.json_scanner import JsonScanner
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ThinkStart, ThinkStop, ToolArgsDelta, ToolStart, ToolStop
from nbllama.chat.source import SPACE


class Output:
    """Space next to a marker that counts is dropped, all other is kept. Thinking that is only space is not announced.

    `started` is called as soon as a call is announced: from then on it is not taken back. `prefix` goes before the
    first text, unless a marker comes first.
    """

    def __init__(self, started: Callable[[], None]) -> None:
        self.pieces: list[Piece] = []
        self.thinking = False
        self.n_calls = 0
        self.in_call = False
        self.unsaid = 0
        self.prefix = ""
        self._started = started
        self._space: list[str] = []
        self._after_marker = False
        self._shown = False
        self._check = JsonScanner()
        self._args = ""

    @property
    def n_space(self) -> int:
        """Characters of space that may yet be said."""
        return sum(map(len, self._space))

    def take(self) -> list[Piece]:
        pieces, self.pieces = self.pieces, []
        return pieces

    def restart(self, pieces: list[Piece], *, n_calls: int, unsaid: int = 0) -> None:
        """Forgets what was said so far but for `pieces`. `unsaid` characters that wait are not news."""
        self.pieces, self.n_calls, self.unsaid, self._shown = pieces, n_calls, unsaid, False

    def say(self, text: str) -> None:
        """Text, or thinking while that is open."""
        text = self._new_part(self._trimmed(text))
        if text:
            text, self.prefix = self.prefix + text, ""
            self._emit(text)

    def flush(self) -> None:
        """The space at the end of an answer belongs to its text."""
        space = self._new_part("".join(self._space))
        self._space = []
        if space and not self.thinking and not self._after_marker:
            self.pieces.append(TextDelta(space))

    def marker(self) -> None:
        """A marker counted: the space before it and after it is nobody's."""
        self._space, self.unsaid, self._after_marker, self.prefix = [], 0, True, ""

    def start_thinking(self) -> None:
        self.marker()
        self.thinking = True

    def stop_thinking(self) -> None:
        self.marker()
        self.thinking = False
        if self._shown:
            self.pieces.append(ThinkStop())
            self._shown = False

    def start_call(self, name: str, id: str | None = None) -> None:
        self._started()
        self.stop_thinking()
        self._check, self._args, self.in_call = JsonScanner(), "", True
        self.pieces.append(ToolStart(self.n_calls, name, id or None))
        self.n_calls += 1

    def arguments(self, text: str) -> None:
        """More of the JSON text of the open call's arguments."""
        if not text:
            return
        self._args = self._args or text.lstrip()[:1]
        end, _ = self._check.feed(text, 0)
        if text[end:].strip():
            self._check.failed = True
        self.pieces.append(ToolArgsDelta(self.n_calls - 1, text))

    def stop_call(self) -> None:
        """Complete is a call whose arguments are one JSON object, whatever its reader thought."""
        complete = self._check.done and not self._check.failed and self._args == "{"
        self.pieces.append(ToolStop(self.n_calls - 1, complete))
        self.in_call = False
        self.marker()

    def _emit(self, text: str) -> None:
        if self.thinking:
            if not self._shown:
                self.pieces.append(ThinkStart())
                self._shown = True
            self.pieces.append(ThinkDelta(text))
        else:
            self.pieces.append(TextDelta(text))

    def _trimmed(self, text: str) -> str:
        """`text` with the space held so far, and without the space at its end, which is held; often empty."""
        if self._after_marker:
            text = text.lstrip(SPACE)
        if not text:
            return ""
        self._after_marker = False
        core = text.rstrip(SPACE)
        space = text[len(core) :]
        if core:
            core = "".join(self._space) + core
            self._space = []
        self._space.append(space)
        return core

    def _new_part(self, text: str) -> str:
        """Without what the prompt held already."""
        cut = min(self.unsaid, len(text))
        self.unsaid -= cut
        return text[cut:]
