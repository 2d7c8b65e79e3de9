"""Cells that run out: whoever fits alone gets its answer, word for word, in a bounded number of steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllama.engine.errors import NoCells
from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Started
from nbllama.engine.lane import Lane
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime, initialise
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Rule, Script, ScriptedRuntime
from tests.engine.harness import GREEDY, Collected

DEMO = Path(__file__).parents[2] / "nbllama" / "models" / "demo.gguf"


class CountingRuntime(ScriptedRuntime):
    """Counts the rows that were computed. Calls `within` in each decode."""

    n_rows = 0
    within: Callable[[], None] = staticmethod(lambda: None)

    def decode(self, rows: Sequence[Row]) -> None:
        self.within()
        super().decode(rows)
        self.n_rows += len(rows)


@dataclass
class Request:
    """One job of a mix. `n_prompt` and `n_answer` in tokens; it is submitted before the step `arrives`.

    With `cancelled` it is cancelled within its so-manieth step."""

    n_prompt: int
    n_answer: int
    priority: int = 0
    arrives: int = 0
    n_common: int = 0
    cancelled: int | None = None
    told: Collected = field(default_factory=Collected)
    ended_in: int | None = None

    @property
    def n_cells(self) -> int:
        return self.n_prompt + self.n_answer


class Driver:
    """A lane without a thread. After each step the books are checked against each other and against the cells."""

    def __init__(self, requests: list[Request], *, n_cells: int, n_slots: int = 4, n_batch: int = 64, cache: int = 0):
        self.requests = requests
        rules = tuple(Rule(_name_pattern(i), _answer(i, r.n_answer)) for i, r in enumerate(requests))
        script = Script(rules=rules, n_ctx=4096, n_cells=n_cells, n_batch=n_batch, max_sequences=n_slots)
        self.runtime = CountingRuntime(script)
        self.lane = Lane(self.runtime, cache_bytes=cache)
        self.n_steps, self.n_preempted = 0, 0
        self._preempt, self.lane.scheduler.preempt = self.lane.scheduler.preempt, self._counted  # type: ignore

    def _counted(self, sequence: object) -> int:
        self.n_preempted += 1
        return self._preempt(sequence)  # type: ignore[arg-type]

    def submit(self, index: int) -> None:
        request = self.requests[index]
        text = "common " * request.n_common + _name(index)
        prompt = self.runtime.vocabulary.tokenize(text, parse_control=False)
        prompt += [ord("x")] * (request.n_prompt - len(prompt))
        assert len(prompt) == request.n_prompt
        self.lane.add(
            Job(f"{index}", "local", tuple(prompt), 1000, GREEDY, request.told.deliver, priority=request.priority)
        )

    def step(self) -> None:
        due = [f"{i}" for i, r in enumerate(self.requests) if r.cancelled == self.n_steps - r.arrives]

        def cancel() -> None:
            for id in due:
                self.lane.in_flight.cancel(id)

        self.runtime.within = cancel
        self.lane.step()
        for id in due:
            self.lane.cancel(id)
        self.n_steps += 1
        for sequence in self.lane.collect():
            outcomes, sequence.outcomes = sequence.outcomes, []
            if outcomes:
                sequence.job.deliver(outcomes)
        for request in self.requests:
            if request.ended_in is None and request.told.ended.is_set():
                request.ended_in = self.n_steps
        scheduler = self.lane.scheduler
        scheduler.check_integrity()
        assert self.runtime._cells == [scheduler.slots[i].tokens for i in range(self.runtime.info.max_sequences)]

    def run(self, bound: int) -> None:
        """Submits who arrives, until all have ended."""
        while self.n_steps <= max(r.arrives for r in self.requests) or self.lane.has_work:
            for index, request in enumerate(self.requests):
                if request.arrives == self.n_steps:
                    self.submit(index)
            self.step()
            assert self.n_steps < bound, f"no end after {bound} steps: {[r.told.outcomes[-1:] for r in self.requests]}"

    def check_answers(self) -> None:
        for index, request in enumerate(self.requests):
            n_starts = sum(isinstance(outcome, Started) for outcome in request.told.outcomes)
            answer, ending = _answer(index, request.n_answer), request.told.ending
            if request.cancelled is not None and isinstance(ending, Finished) and ending.reason == "cancelled":
                assert answer.startswith(request.told.text)
                assert n_starts <= 1
            else:
                assert ending == Finished("end", request.n_answer + 1)
                assert request.told.text == answer
                assert n_starts == 1


def _name(index: int) -> str:
    return f"<{'abcdefghij'[index // 10]}{'abcdefghij'[index % 10]}>"


def _name_pattern(index: int) -> re.Pattern[str]:
    return re.compile(re.escape(_name(index)))


def _answer(index: int, n_answer: int) -> str:
    """As many tokens, one each, that no other answer has in this order."""
    return "".join("abcdefghij"[(index + i * (index + 1)) % 10] + "!" for i in range(n_answer))[:n_answer]


@st.composite
def mixes(draw: st.DrawFn) -> tuple[list[Request], dict[str, int]]:
    request = st.builds(
        Request,
        n_prompt=st.integers(10, 40),
        n_answer=st.integers(1, 40),
        priority=st.integers(-1, 2),
        arrives=st.integers(0, 60),
        n_common=st.integers(0, 3),
        cancelled=st.none() | st.none() | st.integers(0, 60),
    )
    requests = draw(st.lists(request, min_size=2, max_size=8))
    largest = max(r.n_cells for r in requests)
    return requests, {
        "n_cells": draw(st.integers(largest, 2 * largest)),
        "n_slots": draw(st.integers(2, 5)),
        "n_batch": draw(st.integers(4, 64)),
        "cache": draw(st.sampled_from([0, 10**6])),
    }


@given(mixes())
@settings(max_examples=150, deadline=None)
def test_whoever_fits_alone_gets_its_answer(mix: tuple[list[Request], dict[str, int]]) -> None:
    requests, sizes = mix
    driver = Driver(requests, **sizes)
    n_tokens = sum(r.n_cells for r in requests)

    driver.run(bound=60 + (1 + sizes["n_slots"]) * n_tokens)

    driver.check_answers()
    assert driver.n_preempted <= len(requests) * (1 + sizes["n_slots"])
    assert driver.runtime.n_rows <= n_tokens + driver.n_preempted * max(r.n_cells for r in requests)


def test_two_that_do_not_fit_together_run_one_after_the_other() -> None:
    driver = Driver([Request(20, 60), Request(20, 60)], n_cells=80)

    driver.run(bound=400)

    driver.check_answers()
    assert driver.n_preempted == 1
    assert driver.runtime.n_rows < 1.5 * 160


def test_who_was_sent_away_comes_back_when_somebody_has_left() -> None:
    driver = Driver([Request(20, 100), Request(20, 60), Request(20, 60)], n_cells=200)

    driver.run(bound=400)

    driver.check_answers()
    assert driver.n_preempted == 1
    long, leaves, sent_away = (request.ended_in or 0 for request in driver.requests)
    assert leaves < sent_away < long


def test_three_with_room_for_one_are_not_prefilled_in_vain() -> None:
    driver = Driver([Request(60, 20), Request(60, 20), Request(60, 20)], n_cells=80)

    driver.run(bound=400)

    driver.check_answers()
    assert driver.n_preempted == 0
    assert driver.runtime.n_rows <= 3 * 80


@pytest.mark.parametrize("priority", [0, 1])
def test_who_was_sent_away_ends_beside_a_stream_of_new_arrivals(priority: int) -> None:
    """Each of the stream comes before an earlier one has ended; none is older, some count more."""
    stream = [Request(20, 30, priority, arrives=5 + 10 * i) for i in range(50)]
    driver = Driver([Request(20, 70), *stream], n_cells=100, n_slots=3)

    driver.run(bound=5000)

    driver.check_answers()
    assert driver.n_preempted > 0
    ends = [request.ended_in or 0 for request in driver.requests]
    assert sum(end < ends[0] for end in ends) < 8, "it ended behind the stream"


def test_a_higher_priority_takes_the_cells_of_a_lower_one() -> None:
    low, beside, high = Request(20, 300), Request(20, 300), Request(150, 20, priority=1, arrives=250)
    driver = Driver([low, beside, high], n_cells=400)

    driver.run(bound=2000)

    driver.check_answers()
    assert driver.n_preempted == 2, "first beside, before high came, then low"
    assert (high.ended_in or 0) < (low.ended_in or 0) < (beside.ended_in or 0)


def test_one_that_does_not_fit_alone_fails_alone() -> None:
    driver = Driver([Request(50, 10), Request(10, 10)], n_cells=40)

    driver.run(bound=200)

    failed, other = (request.told for request in driver.requests)
    assert isinstance(failed.ending, Failed)
    assert isinstance(failed.ending.error, NoCells)
    assert other.ending == Finished("end", 11)


@pytest.mark.parametrize("priorities", [(0, 0, 0), (0, 1, 2)])
def test_the_demo_model_says_the_same_with_few_cells(priorities: tuple[int, ...]) -> None:
    initialise()
    options = LlamaOptions(n_ctx=256, n_threads=1, max_sequences=4, flash_attention=False, f32_cells=True)
    runtime = LlamaRuntime.load(DEMO, "demo", options)
    lane = Lane(runtime)
    control = runtime.vocabulary.control_tokens()
    questions = ("Tell me a story about a cat.", "Write a Python function that sorts a list.", "What is a notebook?")
    prompts = []
    for i, question in enumerate(questions):
        question = f"My number is {i}. " + "Anna has a cat. " * 12 + question
        text = [runtime.vocabulary.tokenize(t, parse_control=False) for t in (f"user\n{question}", "\n", "assistant\n")]
        start, end = control["<|im_start|>"], control["<|im_end|>"]
        prompts.append((start, *text[0], end, *text[1], start, *text[2]))

    def answers(indices: Sequence[int]) -> list[Collected]:
        told = [Collected() for _ in indices]
        for index, collected in zip(indices, told, strict=True):
            job = Job(f"{index}", "local", prompts[index], 150, GREEDY, collected.deliver, priority=priorities[index])
            lane.add(job)
        while lane.has_work:
            lane.step()
            for sequence in lane.collect():
                outcomes: list[Outcome] = sequence.outcomes
                sequence.outcomes = []
                if outcomes:
                    sequence.job.deliver(outcomes)
            lane.scheduler.check_integrity()
        return told

    alone = [answers([i])[0] for i in range(3)]
    together = answers(range(3))
    lane.close("enough")

    n_tokens = sum(len(job.ids) for job in alone) + sum(map(len, prompts))
    assert n_tokens > runtime.info.n_cells, "the cells would hold all of them: the test would see nothing"
    assert [job.ids for job in together] == [job.ids for job in alone]
    assert [job.ending for job in together] == [job.ending for job in alone]
