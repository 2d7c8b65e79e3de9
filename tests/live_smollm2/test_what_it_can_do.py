"""A quick part of the evaluation, with floors: no change to the prompt, the parser or the grammar may cost answers.

The whole table is in demo_model/README.md. Floors are below what was measured, by what a few cases more or less do.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.servers import nbllama
from demo_model.cases import every_case
from demo_model.evaluate import ask, judged

N_CASES = 8
FLOORS: dict[str, dict[str, float]] = {"smollm2": {}, "demo": {}}


@pytest.fixture(scope="module", params=sorted(FLOORS))
def measured(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    model = request.param
    cases = [case for case in every_case(1, N_CASES) if case.set in FLOORS[model]]
    with nbllama(model) as port, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda case: ask(port, case.body), cases))
    yield model, judged(cases, answers, None)


def test_it_reaches_its_floors(measured: tuple[str, dict[str, tuple[int, int]]]) -> None:
    model, report = measured
    below = {name: report[name] for name, floor in FLOORS[model].items() if report[name][0] < floor * report[name][1]}
    assert not below
