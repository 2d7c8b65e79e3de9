"""Grammars that a model cannot leave: the one door to llguidance.

A grammar is written in llguidance's Lark dialect and compiled against a model's vocabulary. Control tokens are never
text in it: a marker that is one token is written as `<[id]>`, everything else matches only text tokens, in any way that
the vocabulary can spell it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from nbllama.chat.enforcing.rules import ControlIds
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.lark import literal

# Compiled grammars kept for a model; a class asks with a handful of schemas, an agent with one set of tools.
KEPT_GRAMMARS = 64
# For each byte of a mask what caps the logits of its eight tokens, lowest bit first.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_CAPS = np.where(_BITS, np.inf, -np.inf).astype(np.float32)
# Bytes of a mask that are applied at a time.
_PART = 2048


class Tokens(Protocol):
    """What a grammar needs of a vocabulary; the engine's is one."""

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def is_end_of_generation(self, token: int) -> bool: ...
    def control_tokens(self) -> dict[str, int]: ...


class Grammars:
    """Compiles for one vocabulary, and keeps what it compiled. Any thread; building takes 0.7 s for 152k tokens."""

    def __init__(self, tokens: Tokens, n_vocab: int) -> None:
        self._special = _special(tokens)
        ends = frozenset(id for id in self._special.values() if tokens.is_end_of_generation(id))
        self.control = ControlIds(self._special, ends)
        self._tokenizer = _tokenizer(tokens, n_vocab, sorted(self._special.values()))
        self._n_vocab = n_vocab
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._caps = np.empty((_PART, 8), dtype=np.float32)

    def guide(self, lark: str) -> GrammarGuide:
        """A guide at the grammar's start. Raises SchemaRefused with the compiler's own words."""
        matcher = self._compiled.pop(lark, None) or self._compile(lark)
        self._compiled[lark] = matcher
        while len(self._compiled) > KEPT_GRAMMARS:
            self._compiled.popitem(last=False)
        return GrammarGuide(matcher.deep_copy(), self._n_vocab, self._caps)

    def marker(self, text: str) -> str:
        """A Lark expression for a marker: the control token that is spelled so, else the text."""
        return f"<[{self._special[text]}]>" if text in self._special else literal(text)

    def _compile(self, lark: str) -> LLMatcher:
        # Silent: errors are asked for, and the log must hold no text of users.
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
        if not matcher.is_error():
            # Some grammars compile and allow nothing, or too much at once: it is the first mask that tells.
            trial = matcher.deep_copy()
            _fill(trial, np.empty(_n_words(self._n_vocab), dtype=np.uint32))
            matcher = trial if trial.is_error() else matcher
        if matcher.is_error():
            raise SchemaRefused(_reason(matcher.get_error()))
        return matcher


class GrammarGuide:
    """The engine's `Guide`: forbids what the grammar does not allow next, and forces what it leaves no choice about."""

    def __init__(self, matcher: LLMatcher, n_vocab: int, caps: npt.NDArray[np.float32]) -> None:
        """`caps`, shape (_PART, 8), is scratch that the guides of an engine's thread share."""
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._bits = np.zeros(_n_words(n_vocab), dtype=np.uint32)
        self._caps = caps

    @property
    def stop(self) -> str | None:
        """`grammar_end` when nothing but the end can follow, `grammar_error` when the grammar cannot go on."""
        if self._matcher.is_error():
            return "grammar_error"
        return "grammar_end" if self._matcher.is_stopped() else None

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        """Sets what is forbidden to -inf: 0.03 ms for 152k tokens, beside 0.004 to 0.1 to find out what is.

        No branch for each token: `copyto` takes 0.07 ms, and 0.63 where half of the tokens are allowed."""
        self.allowed()
        _cap(row[: self._n_vocab], self._bits.view(np.uint8), self._caps)

    def allowed(self) -> npt.NDArray[np.uint32]:
        """The mask as bits, one for each token, lowest first."""
        _fill(self._matcher, self._bits)
        return self._bits

    def possible(self, ids: Collection[int]) -> Collection[int]:
        """Those of `ids` that may come next. Unlike `mask` for any thread, as long as no other has the guide."""
        bits = self.allowed()
        return [id for id in ids if bits[id >> 5] >> (id & 31) & 1]

    def forced(self) -> Sequence[int]:
        """Tokens without an alternative."""
        ids = self._matcher.compute_ff_tokens()
        # It may name tokens that it does not take itself: a marker spelled as text that is one token.
        return ids[: self._matcher.validate_tokens(ids)] if ids else ()

    def accept(self, ids: Sequence[int]) -> None:
        """Advances; a token that does not fit leaves the guide in `grammar_error`."""
        self._matcher.consume_tokens(list(ids))

    def rollback(self, n: int) -> None:
        """Takes back the last `n` accepted tokens."""
        self._matcher.rollback(n)


def _cap(row: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], caps: npt.NDArray[np.float32]) -> None:
    """In parts: what caps the whole of a large vocabulary is 0.6 MB, which a decode has driven out of the cache."""
    for start in range(0, len(mask), _PART):
        part = mask[start : start + _PART]
        np.take(_CAPS, part, axis=0, out=caps[: len(part)], mode="clip")
        logits = row[8 * start : 8 * (start + _PART)]
        np.minimum(logits, caps.reshape(-1)[: len(logits)], out=logits)


def _n_words(n_vocab: int) -> int:
    return (n_vocab + 31) // 32


def _fill(matcher: LLMatcher, bits: npt.NDArray[np.uint32]) -> None:
    matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)


def _special(tokens: Tokens) -> dict[str, int]:
    """The control tokens that are never text. A user-defined token is text that happens to be one token."""
    control = tokens.control_tokens()
    return {text: id for text, id in control.items() if tokens.tokenize(text, parse_control=False) != [id]}


def _tokenizer(tokens: Tokens, n_vocab: int, special: list[int]) -> LLTokenizer:
    ends = [token for token in range(n_vocab) if tokens.is_end_of_generation(token)]
    source = _Source(tokens, n_vocab, ends, special)
    # All ends: a model with several of them would else be forced past the ones that it was trained to use.
    return LLTokenizer(TokenizerWrapper(source), n_vocab=n_vocab, eos_token=ends)


class _Source:
    """A vocabulary in the shape that llguidance wants."""

    bos_token_id = None

    def __init__(self, tokens: Tokens, n_vocab: int, ends: list[int], special: list[int]) -> None:
        self._tokens = tokens
        self.tokens = [tokens.piece(token) for token in range(n_vocab)]
        self.eos_token_id = ends[0] if ends else 0
        self.special_token_ids = special

    def __call__(self, text: bytes) -> list[int]:
        ids = self._tokens.tokenize(text.decode("utf-8", "replace"), parse_control=False)
        # A vocabulary that learns words has some now that it had not when the grammars were made: spelled in bytes.
        return [part for id in ids for part in ([id] if self.tokens[id] else self._bytes(id))]

    def _bytes(self, id: int) -> list[int]:
        return [self.tokens.index(bytes([byte])) for byte in self._tokens.piece(id)]


def _reason(error: str) -> str:
    """The compiler's message without its quotation of the grammar."""
    line = error.splitlines()[0] if error else "the schema allows nothing"
    return line.split("failed to compile JSON schema: ")[-1]
