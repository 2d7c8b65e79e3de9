from __future__ import annotations

import pytest

from nbllama.cli.amounts import count, duration, size


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (5_176_352, "5.2 MB"), (98_362_432, "98 MB"), (4.68e9, "4.7 GB")],
)
def test_size(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (61, "1 min"), (4000, "1 h 6 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_count() -> None:
    assert [count(n, "request") for n in (0, 1, 1234)] == ["0 requests", "1 request", "1,234 requests"]
