"""Which ids a model generated for which text, so that the next turn's prompt finds its prefix in the cells.

A tokenizer has one spelling for a text, a model that samples has many: `c|elsius` where it generated `cel|si|us`. What
lies in the cells are the ids that were generated, so these are the ones that a prompt must repeat. A prefix of cells is
found only as a whole; therefore a text is remembered behind the ids that came before it, and the same words in another
conversation, or another client's, are not mixed up with it.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from nbllama.engine.slots import common_prefix

ENTRY_OVERHEAD_BYTES = 400
"""What an entry takes beside its text and ids: digest, arrays' heads, two dictionary places."""
MOST_PARTS = 8
"""Over how many control tokens a text goes on. As a rule the template writes them again, and each text between two is
found by itself; a call of no tool that was offered is repeated as mere text, in which they are spelled."""
MOST_PER_CONTEXT = 64
"""How many answers to one and the same prompt are told apart: a look-up compares with each of them."""


class Context:
    """Everything before a text, as a digest: the client, then each id. Grows as a prompt is encoded."""

    def __init__(self, client: str) -> None:
        self._hash = hashlib.blake2b(client.encode(errors="replace") + b"\0", digest_size=16)

    def add(self, ids: Sequence[int]) -> None:
        self._hash.update(array("i", ids).tobytes())

    def digest(self) -> bytes:
        return self._hash.copy().digest()


@dataclass(frozen=True, slots=True)
class Known:
    """A text's ids. The first `head_ids` of them are the prompt's own end; they stand for its first `head` bytes."""

    text: bytes
    ids: array[int]
    head: int
    head_ids: int

    @property
    def size(self) -> int:
        return len(self.text) + self.ids.itemsize * len(self.ids) + ENTRY_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Match:
    """Ids for the beginning of a text, and the rest of it, which is still to be tokenised."""

    ids: list[int]
    rest: str


class GeneratedIds:
    """One model's memory: the texts used last, bounded in number and bytes. Any thread may ask.

    `piece` gives a token's bytes, `control` are the ids of control tokens.
    """

    def __init__(
        self,
        piece: Callable[[int], bytes],
        control: Collection[int],
        *,
        max_count: int = 10_000,
        max_bytes: int = 16 << 20,
    ) -> None:
        self._piece = piece
        self._control = frozenset(control)
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._known: OrderedDict[tuple[bytes, bytes], Known] = OrderedDict()
        self._by_context: dict[bytes, OrderedDict[bytes, Known]] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    @property
    def n_texts(self) -> int:
        return len(self._known)

    @property
    def n_bytes(self) -> int:
        """What is kept, in bytes, the overhead of its entries included."""
        return self._n_bytes

    def remember(self, client: str, prompt: Sequence[int], tail_start: int, tail: str, ids: Sequence[int]) -> None:
        """Notes that `ids` were generated behind `prompt`, whose ids from `tail_start` on are the text `tail`."""
        context = Context(client)
        context.add(prompt[:tail_start])
        head, head_ids = _encoded(tail), list(prompt[tail_start:])
        starts = [0, *(place + 1 for place, id in enumerate(ids) if id in self._control)]
        ends = [*starts[MOST_PARTS:], *[len(ids)] * MOST_PARTS]
        for start, end, after in zip(starts, ends, [*starts[1:], len(ids)], strict=False):
            if head or end > start:
                text = head + b"".join(map(self._piece, ids[start:end]))
                known = Known(text, array("i", [*head_ids, *ids[start:end]]), len(head), len(head_ids))
                self._keep(context.digest(), known)
            context.add([*head_ids, *ids[start:after]])
            head, head_ids = b"", []

    def note(self, context: Context, text: str, ids: Sequence[int]) -> None:
        """Keeps how a text was encoded that only begins as a generated one, so that it stays so on each later turn."""
        data = _encoded(text)
        if b"".join(map(self._piece, ids)) == data:
            self._keep(context.digest(), Known(data, array("i", ids), 0, 0))

    def find(self, context: Context, text: str) -> Match | None:
        """The ids of what was generated there and `text` begins with; None where that is nothing."""
        digest, data = context.digest(), _encoded(text)
        with self._lock:
            here = self._by_context.get(digest)
            if not here:
                return None
            known = here.get(data) or max(reversed(here.values()), key=lambda one: common_prefix(one.text, data))
            self._known.move_to_end((digest, known.text))
            here.move_to_end(known.text)
        return self._match(known, data)

    def _match(self, known: Known, data: bytes) -> Match | None:
        if known.text == data:
            return Match(list(known.ids), "")
        same = common_prefix(known.text, data)
        tail = known.ids[known.head_ids :]
        lengths = (len(self._piece(id)) for id in tail)
        ends = [end for end in accumulate(lengths, initial=known.head) if end <= same]
        if ends and ends[-1] < len(data):
            # Another text: what spells a control token in it is for the template to decide.
            first = next((place for place, id in enumerate(tail) if id in self._control), len(tail))
            del ends[first + 1 :]
        while ends and not _is_boundary(data, ends[-1]):
            ends.pop()
        if not ends or ends[-1] == 0:
            return None
        return Match(list(known.ids[: known.head_ids + len(ends) - 1]), data[ends[-1] :].decode())

    def _keep(self, digest: bytes, known: Known) -> None:
        if known.size > self._max_bytes:
            return
        with self._lock:
            here = self._by_context.setdefault(digest, OrderedDict())
            if known.text in here:
                self._drop(digest, known.text)
                here = self._by_context.setdefault(digest, OrderedDict())
            here[known.text] = self._known[digest, known.text] = known
            self._n_bytes += known.size
            if len(here) > MOST_PER_CONTEXT:
                self._drop(digest, next(iter(here)))
            while len(self._known) > self._max_count or self._n_bytes > self._max_bytes:
                self._drop(*next(iter(self._known)))

    def _drop(self, digest: bytes, text: bytes) -> None:
        self._n_bytes -= self._known.pop((digest, text)).size
        here = self._by_context[digest]
        del here[text]
        if not here:
            del self._by_context[digest]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _is_boundary(data: bytes, position: int) -> bool:
    """Whether a text may be cut there: not inside a character, and not inside a word, whose other half would be
    spelled as no model was taught it."""
    if not 0 < position < len(data):
        return True
    return data[position] & 0xC0 != 0x80 and not data[position - 1 : position + 1].isalnum()
