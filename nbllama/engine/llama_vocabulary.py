"""llama.cpp's tokenizer, for every thread. With llama_runtime.py and llama_sampler.py the door to llama_cpp."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import llama_cpp

from nbllama.engine.errors import EngineStopped


class _Users:
    """Who uses the model's memory beside the engine thread: it is freed when they have done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_users = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise EngineStopped("the model was unloaded")
            self._n_users += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._n_users -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Lets nobody in any more, and waits for who is there."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._n_users == 0)


class LlamaVocabulary:
    """llama.cpp's tokenizer. Any thread, any time: it reads immutable data. Raises EngineStopped once it is closed."""

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._users = _Users()
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self._pieces: dict[int, bytes] = {}
        self._ends = frozenset(t for t in range(self.n_tokens) if llama_cpp.llama_vocab_is_eog(vocab, t))
        self._control = self._find_control_tokens()
        bos = int(llama_cpp.llama_vocab_bos(vocab))
        self._bos = bos if bos >= 0 and llama_cpp.llama_vocab_get_add_bos(vocab) else None

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        data = text.encode("utf-8", errors="replace")
        # One token covers at least a byte, but a tokenizer may add a leading space.
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        with self._users:
            n = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, room, False, parse_control)
            if n < 0:
                buffer = (llama_cpp.llama_token * -n)()
                n = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, -n, False, parse_control)
        return list(buffer[:n])

    def piece(self, token: int) -> bytes:
        known = self._pieces.get(token)
        if known is None:
            with self._users:
                known = self._pieces[token] = self._read_piece(token)
        return known

    def close(self) -> None:
        """Before the model is freed: a prompt may be being tokenised in another thread."""
        self._users.close()

    def is_end_of_generation(self, token: int) -> bool:
        return token in self._ends

    def control_tokens(self) -> dict[str, int]:
        return dict(self._control)

    @property
    def adds_bos(self) -> int | None:
        return self._bos

    def text_of(self, token: int) -> str:
        """The spelling of a special token; empty for none."""
        return self.piece(token).decode(errors="replace") if token >= 0 else ""

    def _read_piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, 64, 0, True)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, -n, 0, True)
        return buffer.raw[:n]

    def _find_control_tokens(self) -> dict[str, int]:
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        found = {}
        for token in range(self.n_tokens):
            if llama_cpp.llama_vocab_get_attr(self._vocab, token) & special:
                found[self.text_of(token)] = token
        found.pop("", None)
        return found
