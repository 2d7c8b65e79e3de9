"""Token bytes → text, never half a character."""

from __future__ import annotations

import codecs


class Detokenizer:
    """Feed and flush. Bytes of an unfinished character wait for the rest; bytes that are none become U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """The end of the text. A character that was cut off by the end is dropped: a client must not see a half."""
        self._decoder.reset()
        return ""
