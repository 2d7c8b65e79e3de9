"""Why not more of a prompt was cached: every reason that the engine knows, each brought about in a running engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbllama.engine import reuse
from nbllama.engine.jobs import Finished, Job, Started, Tokens
from nbllama.engine.loop import EngineLoop
from nbllama.engine.reuse import Forgotten, Reuse
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from nbllama.engine.sequence import Sequence
from tests.engine.harness import GREEDY, Collected, submit, wait

Start = Callable[..., EngineLoop]


@pytest.fixture
def start() -> Iterator[Start]:
    loops: list[EngineLoop] = []

    def start(*, cache_bytes: int = 0, can_share: bool = True, **script: Any) -> EngineLoop:
        runtime = ScriptedRuntime(Script.parse({"rules": [{"answer": "ok"}], **script}, name="s"))
        if not can_share:
            runtime.info = type(runtime.info)(
                **{name: getattr(runtime.info, name) for name in runtime.info.__slots__} | {"can_share": False}
            )
        loop = EngineLoop(cache_bytes=cache_bytes)
        loop.add_model("model", runtime)
        loop.start()
        loops.append(loop)
        return loop

    yield start
    for loop in loops:
        loop.check_integrity()
        loop.close()


def prompt(seed: int, n: int = 100) -> list[int]:
    """No two of them begin alike."""
    return [1 + (seed * 31 + place * place) % 200 for place in range(n)]


def ask(loop: EngineLoop, id: str, ids: list[int], **fields: Any) -> Collected:
    job = submit(loop, id, ids, max_tokens=2, **fields)
    wait(job)
    return job


def why(job: Collected) -> Reuse:
    found = next(outcome for outcome in job.outcomes if isinstance(outcome, Started)).reuse
    assert found is not None
    return found


def test_the_first_prompt_finds_nothing(start: Start) -> None:
    assert why(ask(start(), "a", prompt(1))) == Reuse("none", reuse.NOTHING)


def test_the_same_prompt_again_is_there_but_for_its_last_token(start: Start) -> None:
    loop = start()
    ask(loop, "a", prompt(1))
    again = ask(loop, "b", prompt(1))

    assert (again.cached, why(again)) == (99, Reuse("idle sequence", reuse.ALL))


def test_the_next_turn_goes_on_where_the_last_one_ended(start: Start) -> None:
    loop = start()
    first = ask(loop, "a", prompt(1))
    following = ask(loop, "b", [*prompt(1), *first.ids[:1], 65, 66, 67])

    assert following.cached >= 100
    assert why(following) == Reuse("idle sequence", reuse.GOES_ON)


def test_a_change_in_the_middle_is_where_it_ends(start: Start) -> None:
    loop = start()
    ask(loop, "a", prompt(1))
    changed = [*prompt(1)[:40], 250, *prompt(1)[41:]]
    other = ask(loop, "b", changed)

    assert (other.cached, why(other)) == (40, Reuse("idle sequence", reuse.DIFFERS))


def test_a_prefix_is_shared_with_who_runs(start: Start) -> None:
    loop = start(rules=[{"answer": "word " * 400, "delay_s": 0.005}])
    running = submit(loop, "a", prompt(1), max_tokens=400)
    assert running.first_token.wait(30)
    other = ask(loop, "b", [*prompt(1)[:60], 250, 251])

    assert (other.cached, why(other)) == (60, Reuse("running sequence", reuse.DIFFERS))
    loop.cancel("model", "a")
    wait(running)


def test_it_comes_back_from_memory(start: Start) -> None:
    loop = start(cache_bytes=1 << 20, max_sequences=1)
    ask(loop, "a", prompt(1))
    ask(loop, "b", prompt(2))
    again = ask(loop, "c", [*prompt(1), 65])

    assert again.cached >= 99
    assert why(again).source == "memory"
    assert why(ask(loop, "d", [*prompt(1), 65])).source == "idle sequence"


def test_an_evicted_one_is_missed_by_name(start: Start) -> None:
    loop = start(max_sequences=1)
    ask(loop, "a", prompt(1))
    ask(loop, "b", prompt(2))
    again = ask(loop, "c", prompt(1))

    assert again.cached < 20
    assert why(again).reason == f"99 tokens of it had been computed, but {reuse.TAKEN}"


def test_memory_that_was_full_is_said(start: Start) -> None:
    loop = start(max_sequences=1, cache_bytes=4 * 150)
    for seed in (1, 2, 3):
        ask(loop, f"a{seed}", prompt(seed))

    assert reuse.MEMORY_FULL in why(ask(loop, "c", prompt(1))).reason


def test_cells_that_ran_out_are_said(start: Start) -> None:
    loop = start(max_sequences=4, n_cells=250, n_ctx=240)
    ask(loop, "a", prompt(1))
    ask(loop, "b", prompt(2, 200))

    assert reuse.CELLS_RAN_OUT in why(ask(loop, "c", prompt(1))).reason


def test_a_failed_step_is_said(start: Start) -> None:
    loop = start(rules=[{"when": ".*", "answer": "one two three four five", "fail_after": 1}])
    wait(submit(loop, "a", prompt(1), max_tokens=5))

    assert reuse.FAILED in why(ask(loop, "b", prompt(1))).reason


def test_a_state_that_cannot_be_cut_is_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedRuntime, "cut", lambda *_: False)
    loop = start(can_share=False)
    ask(loop, "a", prompt(1))
    other = ask(loop, "b", [*prompt(1)[:60], 250, 251])

    assert (other.cached, why(other)) == (0, Reuse("none", reuse.WHOLE))


def test_a_little_of_a_long_one_stays_in_memory(start: Start) -> None:
    loop = start(cache_bytes=1 << 20, max_sequences=1, n_ctx=8192)
    ask(loop, "a", prompt(1, 6000))
    ask(loop, "b", prompt(2))
    other = ask(loop, "c", [*prompt(1)[:40], 250, 251])

    assert other.cached < 40
    assert why(other).reason == reuse.NOT_WORTH.format(40)


def test_what_is_gone_is_remembered_within_bounds() -> None:
    gone = Forgotten(max_prefixes=3, max_tokens=250)
    for seed in range(10):
        gone.add(prompt(seed), f"reason {seed}")
        assert len(gone) <= 2
        assert gone.n_tokens <= 250
    gone.add(prompt(77, 300), "too long")
    gone.add(prompt(78, 8), "not worth a word")

    assert gone.best(prompt(9), 0) == (100, "reason 9")
    assert gone.best(prompt(9), 90) is None
    assert gone.best(prompt(3), 0) is None
    assert gone.best(prompt(77, 300), 0) is None


def test_the_work_of_a_job_is_counted(start: Start) -> None:
    loop = start(n_batch=32, rules=[{"answer": "one two three"}])
    job = submit(loop, "a", prompt(1), max_tokens=64)
    wait(job)

    assert isinstance(job.ending, Finished)
    # 100 tokens by 32, and "one", " two", " three", each of them read once.
    assert tuple(job.ending.work) == (100, 4, 3)
    told = [outcome.work for outcome in job.outcomes if isinstance(outcome, Tokens)]
    assert [tuple(work) for work in told] == [(100, 4, 0), (100, 4, 1), (100, 4, 2)]
    assert [progress.prefilled for progress in job.progress if not progress.position] == [32, 64, 96]


def test_what_is_computed_again_is_prefill() -> None:
    job = Job("a", "me", tuple(prompt(1)), 64, GREEDY, lambda _: None)
    sequence = Sequence(job, order=1)

    def computes(until: int) -> tuple[int, ...]:
        start, sequence.computed = sequence.computed, until
        sequence.count(start)
        return tuple(sequence.work)

    assert [computes(60), computes(100), computes(101), computes(104)] == [
        (60, 1, 0), (100, 2, 0), (100, 2, 1), (100, 2, 2)
    ]  # fmt: skip
    sequence.computed = 0
    assert [computes(90), computes(102), computes(105), computes(106)] == [
        (190, 3, 2), (202, 4, 2), (204, 5, 2), (204, 5, 3)
    ]  # fmt: skip


def test_times_are_those_of_the_engine_and_in_order(start: Start) -> None:
    loop = start(n_batch=32, rules=[{"answer": "one two three"}])
    job = submit(loop, "a", prompt(1), max_tokens=64)
    wait(job)

    started = next(outcome.at for outcome in job.outcomes if isinstance(outcome, Started))
    prefill = [outcome.at for outcome in job.progress if not outcome.position]
    drawn = [outcome.at for outcome in job.outcomes if isinstance(outcome, Tokens)]
    times = [started, *prefill, *drawn]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
