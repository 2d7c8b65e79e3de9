"""A cancel within a step: it is interrupted exactly when nobody else is in it, and nobody notices afterwards."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from nbllama.engine.errors import DecodeAborted, EngineStopped
from nbllama.engine.in_flight import InFlight
from nbllama.engine.jobs import Failed, Finished
from nbllama.engine.lane import Lane
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Row
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from tests.engine.harness import Collected, submit, wait

MINUTES = 600.0


class WatchedRuntime(ScriptedRuntime):
    """Calls `within` in each decode, and keeps whose steps were interrupted."""

    def __init__(self, **script: Any) -> None:
        super().__init__(Script.parse(script, name="test"))
        self.within: Callable[[Sequence[Row]], None] = lambda rows: None
        self.lane: Lane | None = None
        self.interrupted: list[set[str | None]] = []

    def decode(self, rows: Sequence[Row]) -> None:
        self.within(rows)
        try:
            super().decode(rows)
        except DecodeAborted:
            assert self.lane is not None
            self.interrupted.append({self.lane.scheduler.slots[row.sequence].holder for row in rows})
            raise


Start = Callable[..., tuple[EngineLoop, WatchedRuntime]]


@pytest.fixture
def start() -> Iterator[Start]:
    loops: list[tuple[EngineLoop, WatchedRuntime]] = []

    def start(**script: Any) -> tuple[EngineLoop, WatchedRuntime]:
        runtime = WatchedRuntime(**script)
        loop = EngineLoop()
        loop.add_model("model", runtime)
        runtime.lane = loop._models["model"].lane
        loop.start()
        loops.append((loop, runtime))
        return loop, runtime

    yield start
    for loop, runtime in loops:
        loop.check_integrity()
        assert runtime.lane is not None
        lies = [runtime._cells[index] for index in range(runtime.info.max_sequences)]
        assert lies == [runtime.lane.scheduler.slots[index].tokens for index in range(runtime.info.max_sequences)]
        loop.close()


def ids_of(runtime: ScriptedRuntime, text: str) -> list[int]:
    return runtime.vocabulary.tokenize(text, parse_control=False)


class Switch:
    """What a runtime was told last."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, on: bool) -> None:
        self.on = on


def test_the_last_one_in_a_step_interrupts_it() -> None:
    switch = Switch()
    flight = InFlight(switch)

    with flight.step(["a", "b"]) as wanted:
        assert wanted
        flight.cancel("a")
        flight.cancel("another")
        assert not switch.on
        flight.cancel("b")
        assert switch.on
    assert not switch.on


def test_a_cancel_between_steps_interrupts_nobody_and_is_not_forgotten() -> None:
    switch = Switch()
    flight = InFlight(switch)

    flight.cancel("a")
    with flight.step(["b"]) as wanted:
        assert wanted
        assert not switch.on
    with flight.step(["a"]) as wanted:
        assert not wanted
    with flight.step(["a", "b"]):
        flight.cancel("b")
        assert switch.on, "a is cancelled already"
    flight.forget("a")
    with flight.step(["a"]) as wanted:
        assert wanted


@pytest.mark.parametrize("script", [{"prefill_s": MINUTES}, {"rules": [{"answer": "one two", "delay_s": MINUTES}]}])
def test_a_step_that_would_last_for_minutes_ends_when_cancelled(start: Start, script: dict[str, Any]) -> None:
    loop, runtime = start(**script)
    computes = threading.Event()
    runtime.within = lambda rows: computes.set()

    job = submit(loop, "a", ids_of(runtime, "a prompt of some words"))
    assert computes.wait(60)
    loop.cancel("model", "a")
    wait(job)

    assert isinstance(job.ending, Finished)
    assert job.ending.reason == "cancelled"


@pytest.mark.parametrize("how", ["close", "remove_model"])
def test_a_step_that_would_last_for_minutes_ends_when_the_model_goes(how: str) -> None:
    runtime = WatchedRuntime(prefill_s=MINUTES)
    loop = EngineLoop()
    loop.add_model("model", runtime)
    runtime.lane = loop._models["model"].lane
    loop.start()
    computes = threading.Event()
    runtime.within = lambda rows: computes.set()

    job = submit(loop, "a", ids_of(runtime, "a prompt of some words"))
    assert computes.wait(60)
    loop.close() if how == "close" else loop.remove_model("model")
    wait(job)
    loop.close()

    assert isinstance(job.ending, Failed)
    assert isinstance(job.ending.error, EngineStopped)


def test_what_was_computed_before_an_interrupted_step_is_kept(start: Start) -> None:
    loop, runtime = start(n_batch=4, rules=[{"answer": "fine"}])
    prompt = ids_of(runtime, "a b c d e f g h i j")
    n_decodes = 0

    def cancel_in_the_second(rows: Sequence[Row]) -> None:
        nonlocal n_decodes
        n_decodes += 1
        if n_decodes == 2:
            loop.cancel("model", "a")

    runtime.within = cancel_in_the_second
    first = submit(loop, "a", prompt)
    wait(first)
    second = submit(loop, "b", prompt)
    wait(second)

    assert runtime.interrupted == [{"a"}]
    assert second.cached == 4
    assert second.text == "fine"


def test_memory_that_cannot_be_cut_is_cleared(start: Start) -> None:
    loop, runtime = start(n_batch=4, rules=[{"answer": "fine"}])
    runtime.info = dataclasses.replace(runtime.info, can_share=False)
    prompt = ids_of(runtime, "a b c d e f g h i j")
    runtime.within = lambda rows: loop.cancel("model", "a") if rows[0].position == 4 else None

    first = submit(loop, "a", prompt)
    wait(first)
    runtime.within = lambda rows: None
    second = submit(loop, "b", prompt)
    wait(second)

    assert runtime.interrupted == [{"a"}]
    assert second.cached == 0
    assert second.text == "fine"


def test_beside_others_a_cancel_waits_for_the_step(start: Start) -> None:
    answer = " ".join(f"word{i}" for i in range(12))
    loop, runtime = start(rules=[{"answer": answer}])
    both: list[Sequence[Row]] = []
    told: list[bool] = []
    submitted = threading.Event()

    def cancel_beside(rows: Sequence[Row]) -> None:
        submitted.wait(60)
        if len(both) == 2:
            told.append(job.ended.is_set())
        if len({row.sequence for row in rows}) == 2 and len(both) < 2:
            both.append(rows)
            if len(both) == 2:
                loop.cancel("model", "a")

    runtime.within = cancel_beside
    neighbour = submit(loop, "n", ids_of(runtime, "go"))
    job = submit(loop, "a", ids_of(runtime, "go on"))
    submitted.set()
    wait(job, neighbour)

    assert len(both) == 2, "the two were never in one step: the test would see nothing"
    assert all(told), "it was told only after a step of its neighbour's"
    assert runtime.interrupted == []
    assert neighbour.text == answer
    assert isinstance(job.ending, Finished)
    assert job.ending.reason == "cancelled"


def test_cancels_at_any_time_interrupt_none_but_their_own(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancels fall before, into, between and behind the steps; an interrupted step held cancelled jobs only."""
    loop, runtime = start(prefill_s=0.0003, n_batch=4, max_sequences=3, rules=[{"answer": "one two three"}])
    rng = random.Random(1)
    cancelled: list[Collected] = []
    neighbours: list[Collected] = []
    done = threading.Event()
    lane = runtime.lane
    assert lane is not None
    admit = lane._admit

    def admit_slowly() -> None:
        # So that cancels fall between the steps too, where they are few otherwise.
        done.wait(rng.random() * 0.002)
        admit()

    monkeypatch.setattr(lane, "_admit", admit_slowly)

    def keep_cancelling() -> None:
        i = 0
        while not done.is_set():
            i += 1
            cancelled.append(submit(loop, f"c{i}", ids_of(runtime, f"{i} " + "some words " * rng.randrange(1, 8))))
            done.wait(rng.random() * 0.003)
            loop.cancel("model", f"c{i}")
            if rng.random() < 0.5:
                wait(cancelled[-1])

    thread = threading.Thread(target=keep_cancelling)
    thread.start()
    for i in range(150):
        neighbours.append(submit(loop, f"n{i}", ids_of(runtime, f"neighbour {i}")))
        wait(neighbours[-1])
        # Time in which the others are alone.
        done.wait(rng.random() * 0.004)
    done.set()
    thread.join(60)
    wait(*cancelled)

    assert len(runtime.interrupted) > 5, "hardly anything was interrupted: the test would see nothing"
    strangers = {id for ids in runtime.interrupted for id in ids if not str(id).startswith("c")}
    assert not strangers
    assert [job.text for job in neighbours] == ["one two three"] * len(neighbours)
    assert all(isinstance(job.ending, Finished) for job in cancelled)


EXACT = LlamaOptions(n_ctx=1024, n_threads=1, n_batch=256, flash_attention=False, f32_cells=True)


class HeldLlama:
    """llama.cpp in a decode that stands still, within its own graph, until somebody has cancelled.

    The real callback, on the real flag, is asked from there on."""

    def __init__(self, path: Path, holds: Callable[[int, Sequence[Row]], bool]) -> None:
        self.runtime = LlamaRuntime.load(path, "tiny", EXACT)
        self.loop = EngineLoop()
        self.loop.add_model("model", self.runtime)
        self.computes, self.goes_on = threading.Event(), threading.Event()
        self.n_decodes, self.n_aborted = 0, 0
        self.rows: Sequence[Row] = []
        abort = self.runtime._abort
        real = ctypes.cast(abort.callback, llama_cpp.ggml_abort_callback)

        @llama_cpp.ggml_abort_callback  # type: ignore[untyped-decorator]
        def held(data: int) -> bool:
            if holds(self.n_decodes, self.rows):
                self.computes.set()
                self.goes_on.wait(60)
            return bool(real(data))

        self._held = held
        llama_cpp.llama_set_abort_callback(self.runtime._context, held, abort.data)
        self._decode, self.runtime.decode = self.runtime.decode, self._counted  # type: ignore[method-assign]

    def _counted(self, rows: Sequence[Row]) -> None:
        self.n_decodes += 1
        self.rows = rows
        try:
            self._decode(rows)
        except DecodeAborted:
            self.n_aborted += 1
            raise


def test_llama_stops_within_a_decode_and_goes_on_after_it(tiny_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = LlamaRuntime.load(tiny_path, "tiny", EXACT)
    rows = [Row(20 + i, i, 0, i == 9) for i in range(10)]

    runtime.interrupt(True)
    with pytest.raises(DecodeAborted):
        runtime.decode(rows)
    runtime.interrupt(False)
    assert not caplog.records, "somebody's cancel is no error to log"
    runtime.clear(0)
    runtime.decode(rows)
    after = runtime.logits(9).copy()
    runtime.clear(0)
    runtime.decode(rows)

    assert (after == runtime.logits(9)).all()
    runtime.close()


@pytest.mark.parametrize("n_computed", [0, 256, 512])
def test_llama_is_interrupted_in_a_prefill_and_says_the_same_afterwards(tiny_path: Path, n_computed: int) -> None:
    held = HeldLlama(tiny_path, lambda n, rows: n == n_computed // 256 + 1)
    held.loop.start()
    prompt = [1000 + i % 777 for i in range(700)]

    job = submit(held.loop, "long", prompt, max_tokens=8)
    assert held.computes.wait(60)
    held.loop.cancel("model", "long")
    held.goes_on.set()
    wait(job)
    again = submit(held.loop, "again", prompt, max_tokens=24)
    wait(again)
    held.loop.check_integrity()
    held.loop.close()
    fresh = HeldLlama(tiny_path, lambda n, rows: False)
    fresh.loop.start()
    alone = submit(fresh.loop, "alone", prompt, max_tokens=24)
    wait(alone)
    fresh.loop.close()

    assert held.n_aborted == 1
    assert job.ending == Finished("cancelled", 0)
    assert again.cached == n_computed
    assert again.ids == alone.ids


@pytest.mark.parametrize("prefills", [True, False])
def test_llama_beside_others_is_not_interrupted(tiny_path: Path, prefills: bool) -> None:
    """Held in a step of the neighbour's token and a chunk of the long prompt, and in one of a token each."""
    prompt, long = [900 + i for i in range(20)], [1000 + i % 777 for i in range(700)]
    alone = HeldLlama(tiny_path, lambda n, rows: False)
    expected = submit(alone.loop, "alone", prompt, max_tokens=40)
    alone.loop.start()
    wait(expected)
    alone.loop.close()
    held = HeldLlama(tiny_path, lambda n, rows: rows[0].position >= 20 and (len(rows) > 2) == prefills)

    neighbour = submit(held.loop, "neighbour", prompt, max_tokens=40)
    job = submit(held.loop, "long", long, max_tokens=300)
    held.loop.start()
    assert held.computes.wait(60)
    held.loop.cancel("model", "long")
    held.goes_on.set()
    wait(job, neighbour)
    held.loop.check_integrity()
    held.loop.close()

    assert {row.sequence for row in held.rows} == {0}, "the neighbour goes on alone"
    assert held.n_aborted == 0
    assert isinstance(job.ending, Finished)
    assert job.ending.reason == "cancelled"
    assert neighbour.ids == expected.ids


def test_without_a_c_library_a_decode_runs_to_its_end(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbllama.engine.abort_flag._strlen", lambda: None)
    runtime = LlamaRuntime.load(tiny_path, "tiny", EXACT)

    runtime.interrupt(True)
    runtime.decode([Row(20, 0, 0, True)])
    runtime.interrupt(False)

    assert runtime.logits(0).any()
    runtime.close()
