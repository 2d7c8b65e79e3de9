"""What is told of each token is what the model computed, before and after the mask; and it is free when not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nbllama.engine import drawing
from nbllama.engine.jobs import Finished, Reread, Tokens
from nbllama.engine.likelihood import LEAST_LOGPROB, Likelihood, Reader, forced_token, likelihood, n_possible
from nbllama.engine.llama_runtime import LlamaRuntime
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from tests.engine.harness import Collected, submit, wait
from tests.engine.tiny_model import EXACT


def exact(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Logprobs, computed the long way."""
    wide = row.astype(np.float64)
    return np.asarray(wide - wide.max() - np.log(np.exp(wide - wide.max()).sum()))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("n_vocab", [7, 5000, 151_936])
@pytest.mark.parametrize("left", [1.0, 0.3, 0.001])
@pytest.mark.parametrize("scale", [0.1, 4.0, 60.0])
def test_a_row_reads_as_it_is(rng: np.random.Generator, n_vocab: int, left: float, scale: float) -> None:
    row = (scale * rng.normal(size=n_vocab) - 20).astype(np.float32)
    row[rng.random(n_vocab) > left] = -np.inf
    row[n_vocab // 2] = 0.5
    untouched = row.copy()

    reading = Reader().read(row, 20)
    logprobs = exact(row)
    order = [id for id in np.argsort(-logprobs, kind="stable").tolist() if row[id] > -np.inf][:20]

    assert np.array_equal(row, untouched)
    assert [id for id, _ in reading.top] == order
    assert [logprob for _, logprob in reading.top] == pytest.approx(logprobs[order].tolist(), abs=2e-4)
    p = np.exp(logprobs)
    assert reading.entropy == pytest.approx(-(p * np.where(p > 0, logprobs, 0)).sum(), abs=2e-3)
    assert reading.n_possible == np.count_nonzero(row > -np.inf)
    assert reading.logprob(row[order[0]]) <= 0


def test_equals_are_told_in_the_order_of_their_ids() -> None:
    assert [id for id, _ in Reader().read(np.zeros(40_000, dtype=np.float32), 3).top] == [0, 1, 2]
    assert [id for id, _ in Reader().read(np.zeros(4, dtype=np.float32), 20).top] == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_a_row_that_says_nothing_gives_numbers_that_json_knows(value: float) -> None:
    reading = Reader().read(np.full(100, value, dtype=np.float32), 5)

    assert (reading.top, reading.n_possible, reading.entropy) == ((), 0, 0.0)
    assert reading.logprob(value) == LEAST_LOGPROB


def test_what_a_mask_takes_away_is_its_probability() -> None:
    row = np.log(np.array([0.5, 0.25, 0.15, 0.1], dtype=np.float32))
    reader = Reader()
    before = reader.read(row, 2)
    logit = float(row[2])
    row[:2] = -np.inf
    found = likelihood(before, reader.read(row, 2), logit)

    assert np.exp(found.logprob) == pytest.approx(0.6)
    assert found.raw is not None
    assert np.exp(found.raw.logprob) == pytest.approx(0.15)
    assert found.raw.removed == pytest.approx(0.75)
    assert [id for id, _ in found.top] == [2, 3]
    assert [id for id, _ in found.raw.top] == [0, 1]
    assert not found.forced
    assert likelihood(before, before, logit).raw is None
    row[3] = -np.inf
    assert likelihood(before, reader.read(row, 2), logit).forced


class Steering:
    """Forbids what is even, writes `forced` behind the `after`-th token, and ends after `n` tokens."""

    def __init__(self, forced: list[int], *, after: int = 2, n: int = 60) -> None:
        self._forced, self._after, self._n = forced, after, n
        self.accepted: list[int] = []

    @property
    def stop(self) -> str | None:
        return "grammar_end" if len(self.accepted) >= self._n else None

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        row[::2] = -np.inf

    def forced(self) -> Sequence[int]:
        return self._forced if len(self.accepted) == self._after else ()

    def accept(self, ids: Sequence[int]) -> None:
        self.accepted += ids

    def rollback(self, n: int) -> None:
        del self.accepted[-n:]


def told(job: Collected) -> list[Likelihood]:
    """One for each id, as a reader of the record has them at the end."""
    found: list[Likelihood] = []
    for outcome in job.outcomes:
        if isinstance(outcome, Tokens):
            assert len(outcome.likelihoods) == len(outcome.ids)
            found += outcome.likelihoods
        elif isinstance(outcome, Reread):
            found[outcome.index : outcome.index + len(outcome.likelihoods)] = outcome.likelihoods
    assert len(found) == len(job.ids)
    return found


def reference(path: Path, prompt: list[int], ids: list[int]) -> list[npt.NDArray[np.float32]]:
    """The row in front of each of `ids`, from another context that reads them all at once."""
    runtime = LlamaRuntime.load(path, "reference", EXACT)
    tokens = prompt + ids
    runtime.decode([Row(id, place, 0, place >= len(prompt) - 1) for place, id in enumerate(tokens)])
    rows = [runtime.logits(place).copy() for place in range(len(prompt) - 1, len(tokens) - 1)]
    runtime.close()
    return rows


def test_a_free_answer_is_told_as_the_model_computed_it(tiny: tuple[EngineLoop, LlamaRuntime], tiny_path: Path) -> None:
    loop, runtime = tiny
    prompt = runtime.vocabulary.tokenize("What is the weather in Paris?", parse_control=False)
    plain = submit(loop, "plain", prompt, max_tokens=24)
    wait(plain)
    job = submit(loop, "asked", prompt, max_tokens=24, alternatives=5)
    wait(job)

    assert job.ids == plain.ids
    assert all(not outcome.likelihoods for outcome in plain.outcomes if isinstance(outcome, Tokens))
    for id, one, row in zip(job.ids, told(job), reference(tiny_path, prompt, job.ids), strict=True):
        logprobs = exact(row)
        assert one.logprob == pytest.approx(logprobs[id], abs=1e-3)
        assert [best for _, best in one.top] == pytest.approx(sorted(logprobs, reverse=True)[:5], abs=1e-3)
        assert (one.raw, one.forced) == (None, False)


@pytest.mark.parametrize("n_forced", [3, drawing.MOST_REREAD + 5])
def test_a_steered_answer_is_told_before_and_after_the_mask(
    tiny: tuple[EngineLoop, LlamaRuntime], tiny_path: Path, n_forced: int
) -> None:
    loop, runtime = tiny
    prompt = runtime.vocabulary.tokenize("What is the weather in Paris?", parse_control=False)
    forced = [300 + place for place in range(n_forced)]
    job = submit(loop, "a", prompt, guide=Steering(forced, n=n_forced + 5), alternatives=4)
    wait(job)

    assert job.ids[2 : 2 + n_forced] == forced
    rows = reference(tiny_path, prompt, job.ids)
    for place, (id, one, row) in enumerate(zip(job.ids, told(job), rows, strict=True)):
        raw = exact(row)
        assert one.forced is (2 <= place < 2 + n_forced)
        if one.forced:
            assert (one.logprob, one.entropy, one.top) == (0.0, 0.0, ((id, 0.0),))
            assert (one.raw is not None) is (place < 2 + drawing.MOST_REREAD)
            removed = 1 - np.exp(raw[id])
        else:
            masked = row.copy()
            masked[::2] = -np.inf
            assert one.logprob == pytest.approx(exact(masked)[id], abs=1e-3)
            removed = np.exp(raw[::2]).sum()
        if one.raw is not None:
            assert one.raw.logprob == pytest.approx(raw[id], abs=1e-3)
            assert one.raw.removed == pytest.approx(removed, abs=1e-3)
            assert [best for _, best in one.raw.top] == pytest.approx(sorted(raw, reverse=True)[:4], abs=1e-3)


def test_others_in_the_batch_do_not_change_what_is_told(tiny: tuple[EngineLoop, LlamaRuntime]) -> None:
    loop, runtime = tiny
    prompt = runtime.vocabulary.tokenize("What is the weather in Paris?", parse_control=False)

    def asked(id: str) -> Collected:
        return submit(loop, id, prompt, guide=Steering([301, 302, 303], n=20), alternatives=3)

    alone = asked("alone")
    wait(alone)
    others = [submit(loop, f"other{i}", [*prompt, 300 + i], max_tokens=30) for i in range(4)]
    beside = asked("beside")
    wait(beside, *others)

    assert beside.ids == alone.ids
    for one, other in zip(told(alone), told(beside), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert one.raw is not None
        assert other.raw is not None
        assert one.raw.removed == pytest.approx(other.raw.removed, abs=1e-3)


def scripted(**fields: Any) -> tuple[EngineLoop, ScriptedRuntime]:
    runtime = ScriptedRuntime(Script.parse({"rules": [{"answer": "one two three"}], **fields}, name="s"))
    loop = EngineLoop()
    loop.add_model("model", runtime)
    loop.start()
    return loop, runtime


def noted(calls: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        calls.append(args)
        return function(*args)

    return call


def test_who_does_not_ask_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Any] = []
    looked: list[Any] = []
    draws: list[Any] = []
    masks: list[Any] = []
    monkeypatch.setattr(Reader, "read", noted(reads, Reader.read))
    monkeypatch.setattr(drawing, "n_possible", noted(reads, n_possible))
    monkeypatch.setattr(ScriptedRuntime, "logits", noted(looked, ScriptedRuntime.logits))
    monkeypatch.setattr(ScriptedRuntime, "sample", noted(draws, ScriptedRuntime.sample))
    monkeypatch.setattr(Steering, "mask", noted(masks, Steering.mask))
    loop, runtime = scripted()
    prompt = runtime.vocabulary.tokenize("go on", parse_control=False)
    wait(submit(loop, "free", prompt))
    assert (reads, looked) == ([], [])

    draws.clear()
    guide = Steering([300, 301, 303], n=9)
    wait(submit(loop, "steered", prompt, guide=guide))
    n_draws = len(draws)
    assert n_draws == 6
    assert all(draw[-1] is guide for draw in draws), "the draw knows the guide, and may do without a mask of the row"
    assert (reads, len(looked), len(masks)) == ([], n_draws, n_draws), "one look and one mask a draw: the draw's own"

    wait(submit(loop, "asked", prompt, guide=Steering([300, 301, 303], n=9), alternatives=1))
    assert (len(draws), len(masks), len(looked)) == (2 * n_draws, 3 * n_draws, 3 * n_draws + 3)
    assert reads
    loop.close()


def test_forced_tokens_at_the_end_are_told_without_what_nobody_computed() -> None:
    loop, runtime = scripted()
    prompt = runtime.vocabulary.tokenize("go on", parse_control=False)
    job = submit(loop, "a", prompt, guide=Steering([301, 303], after=1, n=3), alternatives=2)
    wait(job)

    assert job.ending == Finished("stop", 3)
    assert [(one.forced, one.raw is None) for one in told(job)] == [(False, False), (True, True), (True, True)]
    loop.close()


def test_a_preempted_answer_is_told_whole() -> None:
    loop, runtime = scripted(n_ctx=200, n_cells=120, max_sequences=2, rules=[{"answer": "word " * 30}])
    prompt = runtime.vocabulary.tokenize("go on " * 10, parse_control=False)
    jobs = [
        submit(loop, id, [*prompt, 65 + place], guide=Steering([301, 303], after=9, n=40), alternatives=2)
        for place, id in enumerate("ab")
    ]
    wait(*jobs)

    for job in jobs:
        assert [one.raw is not None for one in told(job)] == [True] * 40
        assert sum(len(outcome.likelihoods) for outcome in job.outcomes if isinstance(outcome, Reread)) == 2
    works = [job.ending.work for job in jobs if isinstance(job.ending, Finished)]
    assert sum(work.prefill_tokens for work in works) > 2 * len(prompt), "nobody was preempted"
    loop.close()


def test_an_early_forced_token_is_certain() -> None:
    assert forced_token(7) == Likelihood(0.0, 0.0, ((7, 0.0),), None, forced=True)
