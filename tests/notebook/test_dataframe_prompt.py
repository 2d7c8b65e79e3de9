"""A DataFrame in words."""

from __future__ import annotations

import pandas as pd
import pytest
from IPython.core.error import UsageError

from nbllama.notebook.magics.dataframe_prompt import described

FRAME = pd.DataFrame(
    {"city": ["Paris", None, "Rome, the old"], "price": [1.5, 2.123456789, float("nan")], "n": [1, 2, 3]}
)


def words(text: str) -> int:
    return len(text.split())


def test_schema_types_and_head() -> None:
    text, n_tokens = described("df", FRAME, 400, words)

    assert n_tokens == words(text)
    lines = text.splitlines()
    assert lines[0] == "The pandas DataFrame `df` (3 rows x 3 columns):"
    assert lines[1].startswith("- city: ") and lines[1].endswith(", 1 missing")
    assert lines[2:5] == ["- price: float64, 1 missing", "- n: int64", "Its first rows:"]
    assert lines[5:8] == ["city,price,n", "Paris,1.5,1", lines[7]] and lines[7].endswith(",2.12346,2")
    assert lines[8] == '"Rome, the old",nan,3'


@pytest.mark.parametrize("budget", [18, 20, 30, 45, 60, 200, 1000])
def test_it_keeps_to_the_budget(budget: int) -> None:
    wide = pd.DataFrame({f"column_{n}": range(1000) for n in range(20)})
    text, n_tokens = described("wide", wide, budget, words)

    assert n_tokens <= budget
    if "more columns" in text:
        # One column more would not have fitted.
        assert n_tokens + 3 > budget and "Its first rows" not in text
    elif budget < 60:
        pytest.fail("it cannot be whole")
    else:
        assert "1,000 rows x 20 columns" in text


def test_too_small_a_budget_says_what_would_do() -> None:
    with pytest.raises(UsageError, match="--budget 5: the shortest description of df has 19 tokens"):
        described("df", FRAME, 5, words)


def test_an_index_that_says_something_is_shown() -> None:
    by_day = pd.DataFrame({"x": [1]}, index=pd.Index(["monday"], name="day"))
    text, _ = described("by_day", by_day, 400, words)

    assert "the index\n- x: int64\n" in text and text.endswith("day,x\nmonday,1")


def test_odd_frames() -> None:
    twice = pd.DataFrame([[1, [2, 3]]], columns=["a", "a"])
    deep = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")]))
    long = pd.DataFrame({"text": ["x\n" * 500]})

    assert '1,"[2, 3]"' in described("twice", twice, 400, words)[0]
    assert "('a', 'b'): int64" in described("deep", deep, 400, words)[0]
    assert max(map(len, described("long", long, 400, words)[0].splitlines())) < 100
    assert "0 rows x 0 columns" in described("empty", pd.DataFrame(), 400, words)[0]
    assert "- s: int64" in described("s", pd.Series([1], name="s"), 400, words)[0]
