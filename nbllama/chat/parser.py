"""Generated text → pieces, as it comes.

What comes out does not depend on how the text was cut. Nothing but space is lost: what is no marker after all comes
out as text. Each character is looked at a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nbllama.chat.automaton import MarkerSearch
from nbllama.chat.call_reader import CallReader
from nbllama.chat.format import CallTags, Format
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ThinkStart, ThinkStop, ToolStart

_SPACE = " \t\r\n"


class StreamParser:
    """Feed and finish; neither ever raises.

    `tail` is the end of the prompt that belongs to the answer already: it sets the state and comes out as nothing,
    except a call that it left open, which is announced. Thinking is recognised only before the first text or call
    (an answer may talk about its tags); a tag that opens a call counts once a name out of `tool_names` follows.
    Space next to a marker that counts is dropped. Thinking that is only space is not announced.
    """

    def __init__(self, format: Format, tail: str, tool_names: Collection[str]) -> None:
        self._format = format
        self._tool_names = frozenset(tool_names)
        self._modes: dict[str, Callable[[str, int], int]] = {
            "start": self._in_start,
            "text": self._in_text,
            "think": self._in_think,
            "call": self._in_call,
            "after_call": self._in_after_call,
        }
        self._pieces: list[Piece] = []
        self._mode = "start"
        self._held = ""
        self._space: list[str] = []
        self._after_marker = False
        self._thinking_shown = False
        self._search = MarkerSearch([])
        self._call = CallReader(CallTags(), 0, ())
        self._call_opener = ""
        self._call_text: list[str] = []
        self._n_calls = 0
        self._again = ""
        self._unsaid = 0
        self._start_from(tail)

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now."""
        self._read(text)
        return self._take()

    def finish(self) -> list[Piece]:
        """What was held back, and the end of what is open."""
        while self._mode == "call" and not self._call.announced:
            self._reject()
            self._read("")
        if self._mode == "call":
            self._pieces += self._call.finish()
        elif self._mode == "think":
            self._think(self._search.flush())
            self._stop_thinking()
        else:
            self._say(self._search.flush() + self._held)
            self._emit_text(self._take_space())
        return self._take()

    def _take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _start_from(self, tail: str) -> None:
        self._read(tail)
        said = self._take()
        self._thinking_shown = False
        self._n_calls = 0
        if self._mode == "call" and self._call.announced:
            opened = max(i for i, piece in enumerate(said) if isinstance(piece, ToolStart))
            self._pieces = said[opened:]
            return
        # Counted, not dropped: if it turns out to be no marker, only what follows it is new.
        waiting = [*self._space, self._held, self._search.held, *self._call_text]
        self._unsaid = sum(map(len, waiting)) + (len(self._call_opener) if self._mode == "call" else 0)

    def _read(self, text: str) -> None:
        """Goes through `text`. The text of a rejected call comes again, in front of the rest."""
        inputs = [(text, 0)]
        while inputs:
            text, position = inputs.pop()
            while position < len(text) and not self._again:
                position = self._modes[self._mode](text, position)
            if self._again:
                inputs += [(text, position), (self._again, 0)]
                self._again = ""

    def _in_start(self, text: str, position: int) -> int:
        """Only space so far: thinking may begin."""
        char = text[position]
        if not self._held and char in _SPACE:
            self._keep_space(char)
            return position + 1
        opener = self._format.think.open if self._format.think else ""
        if opener.startswith(self._held + char):
            self._held += char
            if self._held == opener:
                self._start_thinking()
            return position + 1
        return self._to_text(position)

    def _to_text(self, position: int) -> int:
        self._mode = "text"
        self._search = MarkerSearch([self._format.call.open] if self._format.call else [])
        self._again, self._held = self._held, ""
        return position

    def _in_text(self, text: str, position: int) -> int:
        plain, end, marker = self._search.feed(text, position)
        self._say(plain)
        if marker is not None:
            self._try_call(marker)
        return end

    def _keep_space(self, space: str) -> None:
        if not self._after_marker:
            self._space.append(space)

    def _take_space(self) -> str:
        space, self._space = "".join(self._space), []
        return space

    def _trimmed(self, text: str) -> str:
        """`text` with the space held so far, and without the space at its end, which is held; often empty."""
        if self._after_marker:
            text = text.lstrip(_SPACE)
        if not text:
            return ""
        self._after_marker = False
        core = text.rstrip(_SPACE)
        if core:
            core = self._take_space() + core
        self._space.append(text[len(text.rstrip(_SPACE)) :])
        return core

    def _say(self, text: str) -> None:
        self._emit_text(self._trimmed(text))

    def _emit_text(self, text: str) -> None:
        text = self._new_part(text)
        if text:
            self._pieces.append(TextDelta(text))

    def _new_part(self, text: str) -> str:
        """Without what the prompt held already."""
        cut = min(self._unsaid, len(text))
        self._unsaid -= cut
        return text[cut:]

    def _pass_marker(self) -> None:
        self._space, self._held, self._unsaid = [], "", 0
        self._after_marker = True

    def _start_thinking(self) -> None:
        self._pass_marker()
        self._mode = "think"
        self._search = MarkerSearch([self._format.think.close] if self._format.think else [])

    def _in_think(self, text: str, position: int) -> int:
        plain, end, marker = self._search.feed(text, position)
        self._think(plain)
        if marker is not None:
            self._stop_thinking()
            self._pass_marker()
            self._mode = "start"
        return end

    def _think(self, text: str) -> None:
        text = self._new_part(self._trimmed(text))
        if not text:
            return
        if not self._thinking_shown:
            self._pieces.append(ThinkStart())
            self._thinking_shown = True
        self._pieces.append(ThinkDelta(text))

    def _stop_thinking(self) -> None:
        if self._thinking_shown:
            self._pieces.append(ThinkStop())
            self._thinking_shown = False

    def _try_call(self, opener: str) -> None:
        self._mode = "call"
        self._call = CallReader(self._format.call or CallTags(), self._n_calls, self._tool_names)
        self._call_opener, self._call_text = opener, []

    def _in_call(self, text: str, position: int) -> int:
        was_announced = self._call.announced
        end, pieces = self._call.feed(text, position)
        if not was_announced:
            self._call_text.append(text[position:end])
        if self._call.rejected:
            self._reject()
            return end
        if self._call.announced and not was_announced:
            self._pass_marker()
            self._call_text = []
        self._pieces += pieces
        if self._call.done:
            self._n_calls += 1
            self._mode = "after_call"
        return end

    def _reject(self) -> None:
        """It was no call: its marker is text, and what came after is read again as if nothing had been hoped."""
        self._to_text(0)
        self._say(self._call_opener)
        self._again = "".join(self._call_text)
        self._call_text, self._call_opener = [], ""

    def _in_after_call(self, text: str, position: int) -> int:
        """The closing tag, if the model writes it; some put several objects between one pair of tags."""
        char = text[position]
        closer = self._format.call.close if self._format.call else ""
        if not self._held and char in _SPACE:
            return position + 1
        if not self._held and char == "{":
            self._try_call("")
            return position
        if closer.startswith(self._held + char):
            self._held += char
            if self._held == closer:
                self._held = ""
                self._to_text(position)
            return position + 1
        return self._to_text(position)
