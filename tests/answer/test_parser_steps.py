"""A trace says how the answer was taken apart; where no traces are kept, nothing is made for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbllama.answer.parser_steps import MAX_STEPS, ParserSteps
from nbllama.chat import explain
from nbllama.chat.explain import Step
from tests.answer.test_service import CALL, WEATHER, ask, run, script, serving

__all__ = ["script"]

ANSWER = f"<think>\nShall I?\n</think>\n\nLet me look at a < b.\n{CALL}"


class Counted(Step):
    """A step that counts how many of it there are."""

    __slots__ = ()
    n = 0

    def __init__(self, *args: Any) -> None:
        Counted.n += 1
        super().__init__(*args)


@pytest.fixture
def steps_made(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.n = 0
    monkeypatch.setattr(explain, "Step", Counted)
    return Counted


def test_the_steps_cover_the_answer(script: Callable[..., str], steps_made: type[Counted]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": ANSWER}])) as service:
            await ask(service, tools=[WEATHER], thinking={"type": "adaptive"})
            record = service.trace("req_1", "local")
            text, steps = record["output_text"], record["parser_steps"]
            covered = {place for step in steps for place in range(step["start"], step["end"])}
            assert not "".join(char for place, char in enumerate(text) if place not in covered).strip()
            told = [(text[step["start"] : step["end"]].strip(), step["decision"]) for step in steps]
            assert ("<think>", "think_open") in told
            assert (CALL.strip(), "call") in told
            assert [kind for step in steps for kind in step["pieces"]] == [
                *("ThinkStart", "ThinkDelta", "ThinkStop"),
                *("TextDelta", "ToolStart", "ToolArgsDelta", "ToolStop"),
            ]
            assert len(steps) < 10 < steps_made.n

    run(check())


def test_without_traces_none_are_made(script: Callable[..., str], steps_made: type[Counted]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": ANSWER}]), trace_count=0) as service:
            await ask(service, tools=[WEATHER])
            assert steps_made.n == 0

    run(check())


def test_what_the_prompt_has_begun_lies_below_zero() -> None:
    steps = ParserSteps("<think>\n")
    steps(Step(0, 8, "start", "think_open", ()))
    steps(Step(8, 11, "thinking", "no marker", ()))
    assert [(row["start"], row["end"]) for row in steps.rows] == [(-8, 0), (0, 3)]


def test_their_number_is_bounded() -> None:
    steps = ParserSteps("")
    for place in range(3 * MAX_STEPS):
        steps(Step(place, place + 1, "text", f"decision {place}", ()))
    assert (len(steps.rows), steps.n_left_out) == (MAX_STEPS, 2 * MAX_STEPS)
