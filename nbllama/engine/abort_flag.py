"""A flag that llama.cpp's threads read while they compute, without Python.

llama.cpp asks `bool (*)(void *)` before each node of its graph. A Python function there takes the GIL each time: a
decode beside a busy interpreter took 6.7 s instead of 3.6. `strlen` of a string that is empty or one byte long answers
the same question.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any


class AbortFlag:
    """`callback` and `data` are for llama.cpp. `callback` is None where no C library is found: nothing aborts there."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.callback = _strlen()

    @property
    def data(self) -> int:
        """The address that the callback reads; valid as long as this object lives."""
        return ctypes.addressof(self._text)

    def set(self, on: bool) -> None:
        """Any thread: one byte is written whole."""
        self._text[0] = b"\1" if on else b"\0"


def _strlen() -> Any:
    try:
        library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        return library.strlen
    except (OSError, AttributeError, TypeError):
        return None
