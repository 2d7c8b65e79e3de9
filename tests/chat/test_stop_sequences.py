from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from nbllama.chat.stop_sequences import StopMatcher, StopSequenceGuide
from tests.chat.linearity import assert_linear

STOPS = st.lists(st.text("aé", min_size=1, max_size=5), max_size=4)
TEXTS = st.text("aé", max_size=30)


def run(stops: list[str], chunks: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(chunk) for chunk in chunks) + matcher.flush()
    return shown, matcher.matched


def expected(stops: list[str], text: str) -> tuple[str, str | None]:
    """The definition: the first end of any sequence; of several that end there, the longest."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


@example(["aaé"], "aaaé", 1)
@example(["aéaa", "éa"], "aéaé", 2)
@given(STOPS, TEXTS, st.integers(1, 5))
def test_the_sequence_that_is_complete_first_wins(stops: list[str], text: str, size: int) -> None:
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert run(stops, chunks) == run(stops, [text]) == expected(stops, text)


def test_only_a_possible_beginning_is_held_back() -> None:
    matcher = StopMatcher(["STOP"])
    assert matcher.feed("a ST") == "a "
    assert matcher.feed("x") == "STx"
    assert matcher.feed("STOP and more") == ""
    assert (matcher.matched, matcher.feed("y"), matcher.flush()) == ("STOP", "", "")


@given(STOPS, TEXTS)
def test_the_guide_stops_where_the_matcher_does(stops: list[str], text: str) -> None:
    data = text.encode()
    guide = StopSequenceGuide(stops, lambda token: bytes([token]))
    fed = b""
    for byte in data:
        if guide.stop:
            break
        guide.accept([byte])
        fed += bytes([byte])
    shown, matched = expected(stops, text)
    assert (guide.stop is not None) == (matched is not None)
    assert fed.decode() == shown + matched if matched else fed == data


def test_rollback_takes_tokens_back_also_over_a_match() -> None:
    guide = StopSequenceGuide(["abc"], lambda token: bytes([token]))
    guide.accept(b"xab")
    guide.accept(b"cd")
    assert guide.stop == "stop_sequence"
    guide.rollback(2)
    assert guide.stop is None
    guide.accept(b"c")
    assert guide.stop == "stop_sequence"
    guide.rollback(100)
    guide.accept(b"c")
    assert guide.stop is None


def test_the_guide_masks_and_forces_nothing() -> None:
    guide = StopSequenceGuide(["a"], lambda token: bytes([token]))
    row = np.arange(3, dtype=np.float32)
    guide.mask(row)
    assert row.tolist() == [0, 1, 2] and guide.forced() == ()


def test_time_is_linear_for_the_worst_sequence() -> None:
    assert_linear(lambda n: run(["a" * 500 + "b", "ab" * 200], ["a"] * n), 4_000)
