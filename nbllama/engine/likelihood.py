"""What a model thought of a token: its probability, the best alternatives, and how sure the model was. Pure.

Read from the row of logits before a token is drawn, only for jobs that ask for it. The row is read in parts that stay
in the processor's cache, nothing of its size is allocated: exponentials of 151,936 logits in one piece are 0.6 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nbllama.engine.candidates import candidates, worth_it

# e to this is still a normal number of 32 bits; smaller ones are slow and add nothing. It also stands for -inf, which
# times 0 would be no number.
_LEAST = np.float32(-87.0)
LEAST_LOGPROB = -9999.0
"""Of what cannot be at all: JSON knows no infinity."""
# Logits that are read at a time.
_PART = 1 << 14


@dataclass(frozen=True, slots=True)
class Reading:
    """One row's distribution at temperature 1: the log of the sum of its exponentials, the entropy in nats, and its
    most probable tokens as (id, logprob), the best first. `n_possible` of its tokens are not
    forbidden."""

    log_total: float
    entropy: float
    top: tuple[tuple[int, float], ...]
    n_possible: int

    def logprob(self, logit: float) -> float:
        """The log of the probability of a token with this logit."""
        logprob = float(logit) - self.log_total
        return min(0.0, logprob) if np.isfinite(logprob) else LEAST_LOGPROB


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of one token; natural logs. `raw` is what holds without the guide's mask, None where it forbade nothing or is
    not known; `removed` the probability that the mask took away. `forced`: the guide left this token alone."""

    logprob: float
    entropy: float
    top: tuple[tuple[int, float], ...]
    raw: Raw | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """The same token before the mask, and how much probability the mask took away, 0.0 to 1.0."""

    logprob: float
    top: tuple[tuple[int, float], ...]
    removed: float


class Reader:
    """Reads rows. Holds the scratch for it; one thread."""

    def __init__(self) -> None:
        self._shifted = np.empty(_PART, dtype=np.float32)
        self._exps = np.empty(_PART, dtype=np.float32)

    def read(self, row: npt.NDArray[np.float32], n_top: int) -> Reading:
        """`row` has shape (n_vocab,), forbidden tokens at -inf, and stays as it is."""
        highest = row.max()
        if not np.isfinite(highest):
            return Reading(-np.inf, 0.0, (), 0)
        total = weighted = 0.0
        n_left = 0
        for start in range(0, len(row), _PART):
            part = row[start : start + _PART]
            shifted, exps = self._shifted[: len(part)], self._exps[: len(part)]
            n_left += n_possible(part)
            np.subtract(part, highest, out=shifted)
            np.maximum(shifted, _LEAST, out=shifted)
            np.exp(shifted, out=exps)
            total += float(exps.sum())
            weighted += float(np.dot(exps, shifted))
        log_total = float(highest) + float(np.log(total))
        entropy = max(0.0, float(np.log(total)) - weighted / total)
        return Reading(log_total, entropy, _best(row, n_top, log_total), n_left)


def n_possible(row: npt.NDArray[np.float32]) -> int:
    """How many tokens of a row are not forbidden."""
    return int(np.count_nonzero(row > -np.inf))


def likelihood(before: Reading, after: Reading, logit: float) -> Likelihood:
    """Of the token with this logit. `before` and `after` the mask; the same where nothing is forbidden."""
    raw = None
    if before is not after:
        removed = -float(np.expm1(min(0.0, after.log_total - before.log_total)))
        raw = Raw(before.logprob(logit), before.top, removed)
    forced = after.n_possible == 1
    return Likelihood(after.logprob(logit), after.entropy, after.top, raw, forced)


def forced_token(token: int, before: Reading | None = None, logit: float = 0.0) -> Likelihood:
    """Of a token that a guide wrote without a draw. `before` is known once the model has read what it follows."""
    raw = None
    if before is not None:
        logprob = before.logprob(logit)
        raw = Raw(logprob, before.top, -float(np.expm1(logprob)))
    return Likelihood(0.0, 0.0, ((token, 0.0),), raw, forced=True)


def _best(row: npt.NDArray[np.float32], n: int, log_total: float) -> tuple[tuple[int, float], ...]:
    n = min(n, len(row))
    ids: npt.NDArray[np.intp] | npt.NDArray[np.int32]
    if worth_it(len(row), n):
        ids = candidates(row, n)["id"]
    elif n:
        ids = np.argpartition(row, len(row) - n)[len(row) - n :]
    else:
        return ()
    logits = row[ids]
    # By id among equals, so that the same row always reads the same.
    order: Sequence[int] = np.lexsort((ids, -logits))[:n].tolist()
    pairs = ((int(ids[place]), float(logits[place])) for place in order)
    return tuple((id, logit - log_total) for id, logit in pairs if logit > -np.inf)
