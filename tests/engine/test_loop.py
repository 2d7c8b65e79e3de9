"""Every way a job can end, on the scripted runtime; after each the books must add up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nbllama.engine.errors import DecodeFailed, EngineError, EngineStopped, NoCells, PromptTooLong, QueueFull
from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Tokens
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from tests.engine.harness import GREEDY, submit, wait

Start = Callable[..., tuple[EngineLoop, ScriptedRuntime]]


@pytest.fixture
def start() -> Iterator[Start]:
    loops: list[EngineLoop] = []

    def start(*, max_waiting: int = 256, **script: Any) -> tuple[EngineLoop, ScriptedRuntime]:
        runtime = ScriptedRuntime(Script.parse(script, name="test"))
        loop = EngineLoop(max_waiting=max_waiting)
        loop.add_model("model", runtime)
        loop.start()
        loops.append(loop)
        return loop, runtime

    yield start
    for loop in loops:
        loop.check_integrity()
        loop.close()


def prompt_of(runtime: ScriptedRuntime, text: str) -> list[int]:
    return runtime.vocabulary.tokenize(text, parse_control=False)


def slow(answer: str = "one two three four five six seven eight", **fields: Any) -> dict[str, Any]:
    return {"rules": [{"answer": answer, "delay_s": 0.02, **fields}]}


def test_done(start: Start) -> None:
    loop, runtime = start(rules=[{"when": "hello", "answer": "Hello there."}])

    job = submit(loop, "a", prompt_of(runtime, "hello"))
    wait(job)

    assert job.text == "Hello there."
    assert job.ending == Finished("end", 4)


@pytest.mark.parametrize(("seconds", "n_deliveries"), [(1e9, 1), (0.0, 5)])
def test_what_comes_fast_goes_out_together(
    start: Start, monkeypatch: pytest.MonkeyPatch, seconds: float, n_deliveries: int
) -> None:
    monkeypatch.setattr("nbllama.engine.loop.SECONDS_TOGETHER", seconds)
    deliveries: list[list[Outcome]] = []
    loop, runtime = start(rules=[{"answer": "one two three four"}])
    submit(loop, "warm", prompt_of(runtime, "hello"), max_tokens=1)
    ended = threading.Event()

    def deliver(outcomes: list[Outcome]) -> None:
        deliveries.append(outcomes)
        if isinstance(outcomes[-1], Finished):
            ended.set()

    loop.submit("model", Job("a", "local", tuple(prompt_of(runtime, "hello")), 64, GREEDY, deliver))
    assert ended.wait(60)
    assert len([outcomes for outcomes in deliveries if any(isinstance(o, Tokens | Finished) for o in outcomes)]) == (
        n_deliveries
    )


def test_max_tokens(start: Start) -> None:
    loop, runtime = start(rules=[{"answer": "one two three four"}])

    job = submit(loop, "a", prompt_of(runtime, "count"), max_tokens=2)
    wait(job)

    assert job.text == "one two"
    assert job.ending == Finished("length", 2)


def test_no_tokens_warm_the_cache(start: Start) -> None:
    loop, runtime = start()
    prompt = prompt_of(runtime, "a prompt of some words")

    warm = submit(loop, "a", prompt, max_tokens=0)
    wait(warm)
    again = submit(loop, "b", prompt)
    wait(again)

    assert warm.ending == Finished("length", 0)
    assert again.cached == len(prompt) - 1


def test_context_full(start: Start) -> None:
    loop, runtime = start(n_ctx=12, rules=[{"answer": "a b c d e f g h i j k l m n o p"}])

    job = submit(loop, "a", prompt_of(runtime, "one two three"), max_tokens=100)
    wait(job)

    assert job.ending == Finished("context", 12 - 3)


def test_a_prompt_that_does_not_fit_is_refused_before_any_work(start: Start) -> None:
    loop, runtime = start(n_ctx=8)

    with pytest.raises(PromptTooLong, match=r"^prompt is too long: 9 tokens > 7 maximum$"):
        submit(loop, "a", prompt_of(runtime, "a b c d e f g h i"))


def test_cancelled_mid_stream(start: Start) -> None:
    loop, runtime = start(**slow())

    job = submit(loop, "a", prompt_of(runtime, "go"))
    assert job.first_token.wait(10)
    loop.cancel("model", "a")
    wait(job)

    assert isinstance(job.ending, Finished)
    assert job.ending.reason == "cancelled"
    assert len(job.ids) < 8


def test_cancelled_while_waiting(start: Start) -> None:
    loop, runtime = start(max_sequences=1, **slow())

    first = submit(loop, "a", prompt_of(runtime, "go"))
    second = submit(loop, "b", prompt_of(runtime, "go"))
    loop.cancel("model", "b")
    wait(second, first)

    assert second.ending == Finished("cancelled", 0)
    assert first.text == "one two three four five six seven eight"


def test_queue_full(start: Start) -> None:
    loop, runtime = start(max_sequences=1, max_waiting=1, **slow())
    running = submit(loop, "a", prompt_of(runtime, "go"))
    waiting = submit(loop, "b", prompt_of(runtime, "go"))

    with pytest.raises(QueueFull) as refused:
        submit(loop, "c", prompt_of(runtime, "go"))
    wait(running, waiting)

    assert refused.value.retry_after >= 1
    assert waiting.progress[0].position == 1


def test_a_full_queue_says_how_long_jobs_lately_took(start: Start) -> None:
    loop, runtime = start(max_sequences=1, max_waiting=1, **slow())
    running, waiting = [submit(loop, id, prompt_of(runtime, "go")) for id in "ab"]
    loop._models["model"].durations.extend([8.0, 12.0])

    with pytest.raises(QueueFull) as refused:
        submit(loop, "c", prompt_of(runtime, "go"))
    loop.cancel("model", "b")
    wait(running, waiting)

    # One runs and one waits: its turn is the second.
    assert refused.value.retry_after == 20.0
    wait_for_no_jobs(loop)
    # The one that was cancelled in the queue never took the slot.
    assert len(loop._models["model"].durations) == 3
    assert loop._models["model"].started == {}


def wait_for_no_jobs(loop: EngineLoop) -> None:
    """A job is told its end after it has left the books; the next check is behind that."""
    loop.check_integrity()
    assert loop.n_jobs("model") == (0, 0)


def test_a_failed_decode_ends_its_jobs_and_nothing_else(start: Start) -> None:
    loop, runtime = start(rules=[{"when": "bad", "answer": "a b c d", "fail_after": 2}, {"answer": "fine"}])

    bad = submit(loop, "a", prompt_of(runtime, "bad"))
    wait(bad)
    good = submit(loop, "b", prompt_of(runtime, "good"))
    wait(good)

    assert isinstance(bad.ending, Failed)
    assert isinstance(bad.ending.error, DecodeFailed)
    assert good.text == "fine"


def test_a_bug_in_a_step_ends_the_jobs_not_the_thread(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, runtime = start(rules=[{"answer": "fine"}])
    broken = threading.Event()

    def break_once(row: int, sampler: Any, guide: Any) -> int:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError
        return ScriptedRuntime.sample(runtime, row, sampler, guide)

    monkeypatch.setattr(runtime, "sample", break_once)
    first = submit(loop, "a", prompt_of(runtime, "go"))
    wait(first)
    second = submit(loop, "b", prompt_of(runtime, "go"))
    wait(second)

    assert isinstance(first.ending, Failed)
    assert second.text == "fine"


def test_cells_of_a_step_that_broke_are_not_taken_for_a_prefix(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, runtime = start(max_sequences=1, rules=[{"answer": "fine"}])
    broken = threading.Event()

    def break_once(rows: Sequence[Row]) -> None:
        ScriptedRuntime.decode(runtime, rows)
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError

    monkeypatch.setattr(runtime, "decode", break_once)
    first = submit(loop, "a", prompt_of(runtime, "go on"))
    wait(first)
    second = submit(loop, "b", prompt_of(runtime, "go on"))
    wait(second)

    assert isinstance(first.ending, Failed)
    assert second.text == "fine"


def test_a_receiver_that_breaks_does_not_stop_the_thread(start: Start) -> None:
    loop, runtime = start(rules=[{"answer": "fine"}])

    def break_down(outcomes: list[Outcome]) -> None:
        raise ZeroDivisionError

    loop.submit("model", Job("a", "local", tuple(prompt_of(runtime, "go")), 8, GREEDY, break_down))
    second = submit(loop, "b", prompt_of(runtime, "go"))
    wait(second, timeout=5)

    assert second.text == "fine"


def test_a_message_that_breaks_does_not_stop_the_thread(start: Start) -> None:
    loop, runtime = start(rules=[{"answer": "fine"}])

    def break_down() -> None:
        raise ZeroDivisionError

    loop.remove_model("unknown", break_down)
    job = submit(loop, "a", prompt_of(runtime, "go"))
    wait(job, timeout=5)

    assert job.text == "fine"


def test_an_empty_prompt_is_refused(start: Start) -> None:
    loop, _ = start()

    with pytest.raises(EngineError, match="empty"):
        submit(loop, "a", [])


class ClosingInbox:
    """An inbox that lets somebody else stop the loop just before the first message is put into it."""

    def __init__(self, inbox: Any, stop: Callable[[], None]) -> None:
        self._inbox, self._stop = inbox, stop
        self._stopper: threading.Thread | None = None
        self.get, self.get_nowait = inbox.get, inbox.get_nowait

    def put(self, message: Callable[[], None]) -> None:
        if self._stopper is None:
            self._stopper = threading.Thread(target=self._stop)
            self._stopper.start()
            self._stopper.join(0.5)
        self._inbox.put(message)


@pytest.mark.parametrize("how", ["close", "remove_model"])
def test_a_job_submitted_while_the_model_goes_still_ends(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    loop, runtime = EngineLoop(), ScriptedRuntime(Script.parse(slow(), name="test"))
    loop.add_model("model", runtime)
    loop.start()

    def stop() -> None:
        loop.close() if how == "close" else loop.remove_model("model")

    monkeypatch.setattr(loop, "_inbox", ClosingInbox(loop._inbox, stop))
    job = submit(loop, "a", prompt_of(runtime, "go"))
    wait(job, timeout=5)
    loop.close()

    assert isinstance(job.ending, Failed)
    assert isinstance(job.ending.error, EngineStopped)


def test_a_closed_loop_takes_no_model_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = EngineLoop()
    loop.start()
    loop.close()
    runtime, closed, removed = ScriptedRuntime(Script()), threading.Event(), threading.Event()
    monkeypatch.setattr(runtime, "close", closed.set)

    loop.add_model("late", runtime)
    loop.remove_model("late", removed.set)

    assert closed.is_set()
    assert removed.is_set()


def test_stopping_ends_every_job(start: Start) -> None:
    loop, runtime = start(max_sequences=1, **slow())
    running = submit(loop, "a", prompt_of(runtime, "go"))
    waiting = submit(loop, "b", prompt_of(runtime, "go"))
    done = threading.Event()

    loop.remove_model("model", done.set)
    assert done.wait(10)

    for job in (running, waiting):
        assert isinstance(job.ending, Failed)
        assert isinstance(job.ending.error, EngineStopped)
    with pytest.raises(EngineStopped):
        submit(loop, "c", prompt_of(runtime, "go"))


def test_ten_streams_at_once_equal_their_solo_runs(start: Start) -> None:
    rules = [{"when": f"n{i}!", "answer": f"answer {i} " + "word " * (i + 3)} for i in range(10)]
    loop, runtime = start(rules=rules, n_batch=16)
    solo = []
    for i in range(10):
        job = submit(loop, f"solo{i}", prompt_of(runtime, f"tell me n{i}!"), max_tokens=200)
        wait(job)
        solo.append(job.text)

    together = [submit(loop, f"all{i}", prompt_of(runtime, f"tell me n{i}!"), max_tokens=200) for i in range(10)]
    wait(*together)

    assert [job.text for job in together] == solo
    assert [job.ending.reason for job in together if isinstance(job.ending, Finished)] == ["end"] * 10


def test_cells_that_run_out_preempt_and_resume(start: Start) -> None:
    answer = " ".join(["word"] * 20)
    loop, runtime = start(n_ctx=32, n_cells=40, max_sequences=3, rules=[{"answer": answer}])

    jobs = [submit(loop, name, prompt_of(runtime, f"{name} go"), max_tokens=30) for name in ("a", "b", "c")]
    wait(*jobs)

    assert [job.text for job in jobs] == [answer] * 3
    assert all(sum(map(len, [job.ids])) == 20 for job in jobs)


def test_an_idle_prefix_is_evicted_before_anybody_waits(start: Start) -> None:
    loop, runtime = start(n_ctx=32, n_cells=32, max_sequences=4, rules=[{"answer": "short"}])

    jobs = []
    for name in (
        "aa bb cc dd ee ff gg hh",
        "ii jj kk ll mm nn oo pp",
        "qq rr ss tt uu vv ww xx",
        "yy zz a b c d e f g",
    ):
        jobs.append(submit(loop, name, prompt_of(runtime, name)))
        wait(jobs[-1])

    assert [job.text for job in jobs] == ["short"] * 4


def test_a_request_larger_than_all_cells_fails_alone(start: Start) -> None:
    loop, runtime = start(n_ctx=64, n_cells=10, rules=[{"answer": "short"}])

    job = submit(loop, "a", prompt_of(runtime, "a b c d e f g h i j k l m n"))
    wait(job)

    assert isinstance(job.ending, Failed)
    assert isinstance(job.ending.error, NoCells)


class ForcingGuide:
    """Forbids one token, then forces two after the first."""

    def __init__(self, forbidden: int, forced: list[int]) -> None:
        self._forbidden, self._forced = forbidden, forced
        self.accepted: list[int] = []

    @property
    def stop(self) -> str | None:
        return "enough" if len(self.accepted) >= 3 else None

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        row[self._forbidden] = -np.inf

    def forced(self) -> Sequence[int]:
        return self._forced if len(self.accepted) == 1 else []

    def accept(self, ids: Sequence[int]) -> None:
        self.accepted += ids

    def rollback(self, n: int) -> None:
        del self.accepted[-n:]


def test_a_guide_masks_forces_and_stops(start: Start) -> None:
    loop, runtime = start(rules=[{"answer": "no way"}])
    forbidden = runtime.vocabulary.tokenize("no", parse_control=False)[0]
    forced = runtime.vocabulary.tokenize("yes sir", parse_control=False)
    guide = ForcingGuide(forbidden, forced)

    job = submit(loop, "a", prompt_of(runtime, "go"), guide=guide)
    wait(job)

    assert job.ending == Finished("stop", 3)
    assert forbidden not in job.ids
    assert job.ids[1:] == forced


def test_a_second_conversation_finds_the_common_prefix(start: Start) -> None:
    loop, runtime = start(rules=[{"answer": "ok"}])
    common = "a b c d e f g h "

    first = submit(loop, "a", prompt_of(runtime, common + "x"))
    wait(first)
    second = submit(loop, "b", prompt_of(runtime, common + "y"))
    wait(second)

    assert first.cached == 0
    assert second.cached >= len(prompt_of(runtime, common)) - 1
