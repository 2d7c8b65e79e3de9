"""Which recording answers, in which order, and what is said when none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbllama.cassettes.tape import NoRecording, Tape
from nbllama.wire.cassette_file import MESSAGES, Cassette, CassetteError, Exchange, encode
from tests.cassettes.tapes import answering, asking, recorded, tape, text

COUNT = "/v1/messages/count_tokens"


def test_the_same_request_plays_in_order_then_the_last_one_again() -> None:
    one, other, third = (recorded(asking(question), answering(text("a"))) for question in ("hi", "ho", "hi"))
    played = tape(one, other, third)

    takes = [played.take(MESSAGES, asking("hi", stream=True)) for _ in range(4)]
    assert [(take.number, take.again) for take in takes] == [(1, False), (3, False), (3, True), (3, True)]
    assert played.take(MESSAGES, asking("ho")).number == 2
    assert played.n_played == 5


def test_the_model_asked_for_comes_first_and_any_other_serves() -> None:
    played = tape(*(recorded(asking("hi", model=model), answering(text(model), model=model)) for model in ("a", "b")))

    assert played.take(MESSAGES, asking("hi", model="b")).number == 2
    assert [played.take(MESSAGES, asking("hi", model="other")).number for _ in range(2)] == [1, 2]
    assert played.models == ["a", "b"]


def test_the_nearest_recording_and_the_first_difference_are_named() -> None:
    questions = ["What is the capital of France?", "Name a colour.", "Count to three."]
    played = tape(*(recorded(asking(question), answering(text("a"))) for question in questions))
    with pytest.raises(NoRecording) as raised:
        played.take(MESSAGES, asking("What is the capital of Spain?"))

    said, details = str(raised.value), raised.value.details
    assert details is not None
    assert (details["nearest"], details["field"]) == (1, "messages.0.content.0.text")
    for part in ("lesson.json", "number 1 of 3", "messages.0.content.0.text", questions[0], "Spain?", "%llama record"):
        assert part in said
    assert (raised.value.status, raised.value.should_retry) == (400, False)


def test_fewer_differences_are_nearer() -> None:
    played = tape(
        recorded(asking("hi", max_tokens=1, temperature=1), answering(text("a"))),
        recorded(asking("hi", max_tokens=1), answering(text("a"))),
    )
    with pytest.raises(NoRecording, match=r"number 2 of 2, which differs in max_tokens: recorded is 1, asked was 9\."):
        played.take(MESSAGES, asking("hi"))


def test_a_count_is_another_request() -> None:
    played = tape(Exchange(COUNT, asking("hi"), answer={"input_tokens": 7}))
    assert played.take(COUNT, asking("hi")).exchange.answer == {"input_tokens": 7}
    with pytest.raises(NoRecording, match="holds no recording of /v1/messages:"):
        played.take(MESSAGES, asking("hi"))


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    file = tmp_path / "deep.json"
    file.write_bytes(encode(Cassette(exchanges=[Exchange(MESSAGES, {"messages": deep}, answer={})]), compressed=False))
    with pytest.raises(CassetteError, match=r"deep\.json is no cassette: "):
        Tape.load(file)


def test_an_empty_cassette_is_refused() -> None:
    with pytest.raises(CassetteError, match=r"lesson\.json holds no recording"):
        tape()
