"""Generated text → pieces, as it comes.

What comes out does not depend on how the text was cut (see source.py), and nothing but space and markers is lost:
what is no marker after all comes out as text. Each character is looked at a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nbllama.chat.channels import MessageReader
from nbllama.chat.explain import Log, Step
from nbllama.chat.format import Format
from nbllama.chat.free_text import FreeText
from nbllama.chat.output import Output
from nbllama.chat.pieces import Piece, TextDelta, ToolArgsDelta, ToolStart, ToolStop
from nbllama.chat.source import Reading, Source

__all__ = ["Step", "StreamParser"]


class StreamParser:
    """Feed and finish; neither ever raises.

    `tail` is the end of the prompt that belongs to the answer already: it sets the state and comes out as nothing,
    except a call that it left open, which is announced. `tools` maps the names that count to JSON schemas of their
    arguments. Thinking is recognised before the first text and after calls (an answer may talk about its tags); a
    marker that opens a call counts once a known name follows. With `thinking` off its tags are text, that of the
    prompt as well. `explain` is told each decision.
    """

    def __init__(
        self,
        format: Format,
        tail: str,
        tools: Mapping[str, Any],
        *,
        thinking: bool = True,
        explain: Callable[[Step], None] | None = None,
    ) -> None:
        self._source = Source()
        self._output = Output(self._source.commit)
        self._log = Log(explain, self._source, self._output) if explain else None
        plain = format if thinking else _without_thinking(format)
        if format.channels:  # the headers say what is thinking and what is text
            plain = replace(plain, think=None, content=None)
        free = FreeText(plain, self._source, self._output, tools, self._log)
        self._steps = self._read(free, format, thinking)
        self._start_from(tail)
        if not thinking:
            self._output.prefix = _opened_thinking(format, tail)

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now."""
        if text and not self._source.ended:
            self._source.feed(text)
            next(self._steps, None)
        return self._take()

    def finish(self) -> list[Piece]:
        """What was held back, and the end of what is open."""
        if not self._source.ended:
            self._source.ended = True
            next(self._steps, None)
        return self._take()

    def _take(self) -> list[Piece]:
        if self._log:
            self._log.before_take()
        return self._output.take()

    def _read(self, free: FreeText, format: Format, thinking: bool) -> Reading[None]:
        if format.channels:
            yield from MessageReader(free, format.channels, thinking).read()
        else:
            yield from free.read()
        if self._output.thinking:
            self._output.stop_thinking()
        else:
            self._output.flush()
        if self._log:
            self._log.end()

    def _start_from(self, tail: str) -> None:
        self._source.feed(tail)
        next(self._steps, None)
        output = self._output
        said = output.take()
        if self._log:
            self._log.forget()
        if output.in_call:
            opened = max(index for index, piece in enumerate(said) if isinstance(piece, ToolStart))
            output.restart([_numbered(piece, 0) for piece in said[opened:]], n_calls=1)
        else:
            # Counted, not dropped: if it turns out to be no marker, only what follows it is new.
            output.restart([], n_calls=0, unsaid=self._source.n_waiting + output.n_space)


def _without_thinking(format: Format) -> Format:
    """Its tags are text then, also where they are ends of messages otherwise."""
    tags = f"{format.think.open} {format.think.close}" if format.think else ""
    return replace(format, think=None, swallow=tuple(text for text in format.swallow if text not in tags))


def _numbered(piece: Piece, index: int) -> Piece:
    return replace(piece, index=index) if isinstance(piece, ToolStart | ToolArgsDelta | ToolStop) else piece


def _opened_thinking(format: Format, tail: str) -> str:
    """The tag in `tail` that leaves thinking open; empty if nothing does."""
    if format.think is None or not format.think.open:
        return ""
    pieces = StreamParser(format, tail, {}).feed("x")
    start = tail.rfind(format.think.open.strip())
    return tail[start:] if start >= 0 and not any(isinstance(piece, TextDelta) for piece in pieces) else ""
