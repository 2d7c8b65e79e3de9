"""Token bytes → text, never half a character."""

from __future__ import annotations

import codecs


class Detokenizer:
    """Bytes of an unfinished character wait for the rest; bytes that are none become U+FFFD.

    There is no flush: a character that the end cut off is dropped, because a client must not see a half.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        return self._decoder.decode(piece)
