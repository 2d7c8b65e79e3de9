"""An answer that goes on from the middle of an earlier one, with another token.

What was recorded is taken as it is: the prompt's ids, and those of the answer up to the fork. They are most of what
the engine computes from, so it finds them in its cells. The parser and the guide are led through them first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nbllama.answer.likelihoods import UNKNOWN, of_another
from nbllama.answer.model_catalog import LoadedModel
from nbllama.answer.tokenise import Encoded
from nbllama.chat.guides import Guide
from nbllama.chat.prompt import Origin, Prompt, Span
from nbllama.engine.detokenizer import Detokenizer
from nbllama.engine.jobs import Finished
from nbllama.wire.content import ImageBlock, ToolResultBlock
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.forks import ForkWish
from nbllama.wire.records import RequestRecord
from nbllama.wire.requests import MessagesRequest

_NAMED = 8
"""Tokens that a refusal names, of those that may stand there."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What is there of an answer before the engine begins. `ending`: nothing can follow.

    `ids` are what `text` was generated with; a character that they leave unfinished is not in it."""

    ids: tuple[int, ...] = ()
    text: str = ""
    ending: Finished | None = None


NOTHING = Begun()


@dataclass(frozen=True, slots=True)
class Fork:
    """Of the answer of `origin` the first `index` tokens, then `token`, then at most `max_tokens` more."""

    origin: RequestRecord
    index: int
    token: int
    max_tokens: int

    def facts(self) -> dict[str, Any]:
        """As a record tells it."""
        return {"id": self.origin.id, "index": self.index, "token": self.token, "max_tokens": self.max_tokens}

    def prompt(self, rendered: Prompt, encoded: Encoded) -> tuple[Prompt, Encoded, list[int]]:
        """The recorded prompt in place of the one that would be written now, which may name another day.

        Raises InvalidRequest if it leads into the answer otherwise."""
        origin = self.origin
        if not origin.prompt.endswith(rendered.tail):
            raise InvalidRequest(f"trace {origin.id}: this model's template writes the end of its prompt otherwise now")
        spans = tuple(
            Span(one["start"], one["end"], Origin(one["kind"], one["message"], one["block"])) for one in origin.spans
        )
        ids, tail = origin.prompt_ids, encoded.ids[encoded.tail_start :]
        known = Encoded(ids, len(ids), "")
        if tail and ids[-len(tail) :] == tail:
            known = Encoded(ids, len(ids) - len(tail), encoded.tail)
        return Prompt(origin.prompt, spans, (), rendered.tail), known, origin.prompt_offsets

    def begin(self, guide: Guide | None, model: LoadedModel) -> Begun:
        """Leads the guide up to where the engine goes on. Any thread. Raises InvalidRequest for a token that the guide
        forbids there, and where the answer is over."""
        vocabulary, kept = model.vocabulary, self.origin.output_ids[: self.index]
        if self.token >= model.info.n_vocab:
            raise InvalidRequest(f"token: this model has no token {self.token}, only 0 to {model.info.n_vocab - 1}")
        if guide is not None:
            guide.accept(kept)
            if guide.stop:
                raise InvalidRequest(f"index: nothing can follow there, the answer is over ({guide.stop})")
            if not guide.possible([self.token]):
                raise InvalidRequest(self._refusal(guide, model))
        if vocabulary.is_end_of_generation(self.token):
            return Begun(tuple(kept), _text(kept, vocabulary.piece), Finished("end", 0))
        ids = [*kept, self.token]
        if guide is not None:
            guide.accept([self.token])
        over = Finished("stop", 0) if guide is not None and guide.stop else None
        return Begun(tuple(ids), _text(ids, vocabulary.piece), over)

    def probabilities(self) -> list[dict[str, Any]]:
        """What the origin's record tells of the tokens up to the fork and of the one chosen there."""
        index, recorded = self.index, self.origin.probabilities
        told = [*recorded[:index], *[UNKNOWN] * (index - len(recorded))]
        if index >= len(recorded):
            return [*told, UNKNOWN]
        return [*told, of_another(recorded[index], self.origin.output_ids[index], self.token)]

    def _refusal(self, guide: Guide, model: LoadedModel) -> str:
        piece, possible = model.vocabulary.piece, guide.possible(range(model.info.n_vocab))
        likely = self._likely()
        first = [id for id in likely if id in possible]
        named = list(dict.fromkeys([*first, *possible]))[:_NAMED]
        words = " ".join(_quoted(piece(id)) for id in named) + (" …" if len(possible) > len(named) else "")
        how_many = "1 token" if len(possible) == 1 else f"{len(possible):,} tokens"
        return (
            f"token: {_quoted(piece(self.token))} ({self.token}) is not allowed at {self.index}: what this answer has "
            f"to be (a tool's arguments, a schema, a budget of thinking) allows {how_many} there: {words}"
        )

    def _likely(self) -> list[int]:
        """What the origin's record names at that place, the best first."""
        told = self.origin.probabilities[self.index : self.index + 1]
        top = [id for one in told for id, _ in one.get("top") or ()]
        return [*self.origin.output_ids[self.index : self.index + 1], *top]


def fork_of(origin: RequestRecord, wish: ForkWish, request: MessagesRequest) -> Fork:
    """The fork that was wished for. Raises InvalidRequest if the record cannot be gone on from there."""
    n = len(origin.output_ids)
    if wish.index > n:
        raise InvalidRequest(
            f"index: the answer has {n:,} tokens, it can be forked at 0 to {n:,} and not at {wish.index:,}"
        )
    if _has_image(request):
        raise InvalidRequest(f"trace {origin.id}: an answer to images cannot be forked")
    rest = request.max_tokens - wish.index - 1
    if wish.max_tokens is None and rest < 1:
        raise InvalidRequest(
            f"max_tokens: Field required; the request was for {request.max_tokens:,} tokens, and none of them is left"
        )
    return Fork(origin, wish.index, wish.token, wish.max_tokens or rest)


def check_whole(origin: RequestRecord) -> None:
    """Raises InvalidRequest for a record of which too little is known to go on from it."""
    if not origin.model_id:
        raise InvalidRequest(f"trace {origin.id}: the request never reached a model, there is no answer to fork")
    if not origin.prompt or not origin.prompt_ids or not origin.request.get("messages"):
        raise InvalidRequest(f"trace {origin.id}: it was too large to keep whole, its answer cannot be forked")


def _text(ids: Sequence[int], piece: Callable[[int], bytes]) -> str:
    detokenizer = Detokenizer()
    return "".join(detokenizer.feed(piece(id)) for id in ids)


def _quoted(piece: bytes) -> str:
    return json.dumps(piece.decode(errors="backslashreplace"), ensure_ascii=False)


def _has_image(request: MessagesRequest) -> bool:
    for message in request.messages:
        for block in message.content:
            parts = block.content if isinstance(block, ToolResultBlock) else [block]
            if any(isinstance(part, ImageBlock) for part in parts):
                return True
    return False
