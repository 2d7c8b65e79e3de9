"""The few candidates hold every token that a top_k would leave, and llama.cpp draws the same token from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nbllama.engine.candidates import CANDIDATE, allowed_candidates, candidates, worth_it
from nbllama.engine.llama_sampler import LlamaSampler, choose
from nbllama.engine.sampling import SamplingSettings

N_VOCAB = 151_936
Row = npt.NDArray[np.float32]


def flat(random: np.random.Generator) -> Row:
    return random.normal(0, 0.01, N_VOCAB).astype(np.float32)


def peaked(random: np.random.Generator) -> Row:
    return random.exponential(3, N_VOCAB).astype(np.float32)


def ties(random: np.random.Generator) -> Row:
    return random.integers(0, 5, N_VOCAB).astype(np.float32)


def all_in_one_block(random: np.random.Generator) -> Row:
    row = flat(random)
    row[1000:1100] += 10
    return row


def at_the_end(random: np.random.Generator) -> Row:
    """Past the last whole block."""
    row = flat(random)[:-1]
    row[-3:] += 10
    return row


def few_allowed(random: np.random.Generator) -> Row:
    row = np.full(N_VOCAB, -np.inf, dtype=np.float32)
    row[random.choice(N_VOCAB, 7, replace=False)] = np.arange(7) / 10
    return row


ROWS = [flat, peaked, ties, all_in_one_block, at_the_end, few_allowed]


@pytest.mark.parametrize("make", ROWS)
@pytest.mark.parametrize("top_k", [1, 40, 200])
def test_nothing_that_a_top_k_leaves_is_missing(make: type, top_k: int) -> None:
    row: Row = make(np.random.default_rng(top_k))
    found = candidates(row, top_k)
    best = np.sort(row)[::-1][:top_k]
    assert np.array_equal(np.sort(found["logit"])[::-1][:top_k], best[best > -np.inf])
    assert np.array_equal(row[found["id"]], found["logit"])


def test_they_are_few() -> None:
    assert len(candidates(flat(np.random.default_rng(1)), 40)) < 1000


@pytest.mark.parametrize("make", [row for row in ROWS if row is not ties])
@pytest.mark.parametrize(
    "settings", [SamplingSettings(seed=3), SamplingSettings(seed=4, top_p=0.8), SamplingSettings(0)]
)
def test_the_same_token_is_drawn(make: type, settings: SamplingSettings) -> None:
    row: Row = make(np.random.default_rng(5))
    whole = np.zeros(len(row), dtype=CANDIDATE)
    whole["id"], whole["logit"] = np.arange(len(row)), row
    ours, theirs = LlamaSampler(settings), LlamaSampler(settings)
    drawn = [choose(ours.chain, candidates(row, ours.top_k)) for _ in range(20)]
    assert drawn == [choose(theirs.chain, whole.copy()) for _ in range(20)]
    ours.close()
    theirs.close()


def test_no_top_k_and_small_vocabularies_take_the_whole_row() -> None:
    assert worth_it(N_VOCAB, 40)
    assert not worth_it(N_VOCAB, 0)
    assert not worth_it(N_VOCAB, 10_000)
    assert not worth_it(4096, 40)


def bits_of(allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    whole = np.zeros((len(allowed) + 31) // 32 * 32, dtype=np.bool_)
    whole[: len(allowed)] = allowed
    return np.packbits(whole, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("make", ROWS)
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("top_k", [1, 40])
def test_a_guide_s_bits_leave_what_its_mask_would(make: type, share: float, top_k: int) -> None:
    random = np.random.default_rng(top_k)
    row: Row = make(random)
    allowed = random.random(len(row)) < share
    found = allowed_candidates(row, bits_of(allowed), top_k)
    masked = np.where(allowed, row, -np.inf)
    if found is not None:
        best = np.sort(masked)[::-1][:top_k]
        assert np.array_equal(np.sort(found["logit"])[::-1][:top_k], best)
        assert allowed[found["id"]].all()


def test_most_masks_need_no_whole_row() -> None:
    random = np.random.default_rng(1)
    row = peaked(random)
    few = np.zeros(N_VOCAB, dtype=np.bool_)
    few[[5, 77, N_VOCAB - 1]] = True
    found = allowed_candidates(row, bits_of(few), 40)
    assert found is not None
    assert found["id"].tolist() == [5, 77, N_VOCAB - 1]
    assert allowed_candidates(row, bits_of(random.random(N_VOCAB) < 0.9), 40) is not None


def test_where_what_the_model_wants_is_forbidden_only_a_mask_can_tell() -> None:
    row = peaked(np.random.default_rng(1))
    wanted = candidates(row, 80)["id"]
    allowed = np.ones(N_VOCAB, dtype=np.bool_)
    allowed[wanted] = False
    assert allowed_candidates(row, bits_of(allowed), 40) is None
    assert allowed_candidates(row, bits_of(np.zeros(N_VOCAB, dtype=np.bool_)), 40) is None
