"""How a sequence gets its next token: the draw behind the guide's mask, and where it is asked what the model thought.

A job that does not ask costs no look at its logits beside the sampler's own.
"""

from __future__ import annotations

from nbllama.engine.errors import EngineError
from nbllama.engine.jobs import Reread
from nbllama.engine.likelihood import Likelihood, Reader, forced_token, likelihood, n_possible
from nbllama.engine.runtime import Runtime, Sampler
from nbllama.engine.scheduler import Share
from nbllama.engine.sequence import Sequence

MOST_REREAD = 32
"""Forced tokens in a row whose logits are computed afterwards, only to be told: llama.cpp keeps a row of 0.6 MB for
each of them."""


class Drawing:
    """The draws of one model. Engine thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._reader = Reader()

    def draw(self, sequence: Sequence, row: int) -> tuple[int, tuple[Likelihood, ...]]:
        """The token after the batch's `row`-th row, and its likelihood if the job asks for it."""
        if (sampler := sequence.sampler) is None:
            raise EngineError(f"{sequence.job.id} has no sampler")
        if sequence.job.alternatives:
            return self._read_and_draw(sequence, row, sampler)
        return self._runtime.sample(row, sampler, sequence.job.guide), ()

    def forced(self, sequence: Sequence) -> list[int]:
        """What the guide writes by itself now, as far as there is room for it."""
        job = sequence.job
        room = min(job.max_tokens - sequence.n_generated, self._runtime.info.n_ctx - len(sequence.tokens))
        return list(job.guide.forced())[: max(0, room)] if job.guide else []

    def noted(self, sequence: Sequence, ids: list[int]) -> tuple[Likelihood, ...]:
        """The likelihoods of forced tokens that were just added; the next step reads what they are without force."""
        if not sequence.job.alternatives or not ids:
            return ()
        start = len(sequence.tokens) - len(ids)
        sequence.unread = range(start, start + min(len(ids), MOST_REREAD))
        return tuple(map(forced_token, ids))

    def reread(self, share: Share) -> None:
        """Tells what the model thought of forced tokens that the step has read up to."""
        if not share.reread:
            return
        sequence = share.sequence
        start = sequence.computed - share.n_tokens
        read = []
        for position in share.reread:
            row = self._runtime.logits(share.first + position - 1 - start)
            token = sequence.tokens[position]
            before = self._reader.read(row, sequence.job.alternatives)
            read.append(forced_token(token, before, float(row[token])))
        sequence.unread = range(share.reread.stop, sequence.unread.stop)
        sequence.outcomes.append(Reread(share.reread.start - len(sequence.job.prompt), tuple(read)))

    def _read_and_draw(self, sequence: Sequence, row: int, sampler: Sampler) -> tuple[int, tuple[Likelihood, ...]]:
        job = sequence.job
        logits = self._runtime.logits(row)
        before = after = self._reader.read(logits, job.alternatives)
        # As for who does not ask, so that asking changes no draw; it may leave the row as it is.
        token = self._runtime.sample(row, sampler, job.guide)
        if job.guide is not None:
            job.guide.mask(logits)
            if n_possible(logits) != before.n_possible:
                after = self._reader.read(logits, job.alternatives)
        # What a mask leaves it leaves as it is, so the token's logit is the same before and after.
        return token, (likelihood(before, after, float(logits[token])),)
