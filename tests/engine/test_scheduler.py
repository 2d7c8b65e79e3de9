from __future__ import annotations

import pytest

from nbllama.engine.jobs import Job
from nbllama.engine.sampling import SamplingSettings
from nbllama.engine.scheduler import IntegrityError, Scheduler
from nbllama.engine.sequence import Sequence
from nbllama.engine.slots import SlotTable


def job(id: str, n_prompt: int, *, priority: int = 0) -> Job:
    prompt = tuple(range(n_prompt))
    return Job(id, "local", prompt, 10, SamplingSettings(), lambda outcomes: None, priority=priority)


def make(n_slots: int = 4, n_batch: int = 64) -> Scheduler:
    return Scheduler(SlotTable(n_slots), n_batch=n_batch)


def admit(scheduler: Scheduler) -> Sequence:
    placement = scheduler.can_admit()
    assert placement is not None
    return scheduler.admit(placement)


def compute(scheduler: Scheduler, budget: int = 64) -> list[tuple[str, int]]:
    step = scheduler.next_step(budget)
    assert step is not None
    scheduler.complete(step)
    for share in step.shares:
        if share.row is not None:
            share.sequence.tokens.append(7)
    scheduler.check_integrity()
    return [(share.sequence.job.id, share.n_tokens) for share in step.shares]


def test_decoding_comes_before_prefill() -> None:
    scheduler = make()
    scheduler.add(job("old", 3))
    admit(scheduler)
    compute(scheduler)
    scheduler.add(job("new", 100))
    admit(scheduler)

    assert compute(scheduler, budget=20) == [("old", 1), ("new", 20)]


def test_a_step_never_exceeds_the_batch() -> None:
    scheduler = make(n_slots=4, n_batch=8)
    for name in "abc":
        scheduler.add(job(name, 6))
        admit(scheduler)

    step = scheduler.next_step(100)

    assert step is not None
    assert len(step.rows) == 8
    assert [(share.sequence.job.id, share.n_tokens, share.row) for share in step.shares] == [
        ("a", 6, 5),
        ("b", 2, None),
    ]


def test_higher_priority_waits_less() -> None:
    scheduler = make(n_slots=1)
    scheduler.add(job("first", 2))
    scheduler.add(job("second", 2))
    scheduler.add(job("urgent", 2, priority=1))

    assert admit(scheduler).job.id == "urgent"
    assert [sequence.job.id for sequence in scheduler.waiting] == ["first", "second"]


def test_a_preempted_sequence_keeps_its_tokens_and_its_place_in_the_queue() -> None:
    scheduler = make(n_slots=2)
    for name in ("old", "young"):
        scheduler.add(job(name, 4))
        admit(scheduler)
    compute(scheduler)
    scheduler.add(job("later", 4))

    victim = scheduler.preemptible()
    assert victim is not None
    scheduler.preempt(victim)
    scheduler.check_integrity()

    assert victim.job.id == "young"
    assert victim.tokens == [0, 1, 2, 3, 7]
    assert victim.n_pending == 5
    assert [sequence.job.id for sequence in scheduler.waiting] == ["young", "later"]


def test_the_only_sequence_is_never_preempted() -> None:
    scheduler = make()
    scheduler.add(job("alone", 4))
    admit(scheduler)

    assert scheduler.preemptible() is None


def test_what_a_sequence_computed_is_found_by_the_next() -> None:
    scheduler = make(n_slots=1)
    scheduler.add(job("one", 10))
    sequence = admit(scheduler)
    compute(scheduler)
    scheduler.finish(sequence)
    scheduler.add(job("two", 12))

    placement = scheduler.can_admit()

    assert placement is not None
    assert placement.keep == 10


def test_integrity_notices_a_slot_that_nobody_gave_back() -> None:
    scheduler = make()
    scheduler.add(job("leak", 4))
    sequence = admit(scheduler)
    scheduler.running.remove(sequence)

    with pytest.raises(IntegrityError, match="slots are held"):
        scheduler.check_integrity()


def test_integrity_notices_cells_that_hold_other_tokens() -> None:
    scheduler = make()
    scheduler.add(job("wrong", 4))
    sequence = admit(scheduler)
    compute(scheduler)
    sequence.tokens[0] = 99

    with pytest.raises(IntegrityError, match="its slot holds others"):
        scheduler.check_integrity()
