from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbllama.engine.detokenizer import Detokenizer


@given(st.text(), st.integers(1, 5))
def test_text_survives_any_cut(text: str, size: int) -> None:
    data = text.encode("utf-8", errors="replace")
    detokenizer = Detokenizer()

    parts = [detokenizer.feed(data[i : i + size]) for i in range(0, len(data), size)]

    assert "".join(parts) == data.decode()
    assert all("\ufffd" not in part for part in parts if "\ufffd" not in text)


def test_half_a_character_is_not_shown() -> None:
    assert Detokenizer().feed("é".encode()[:1]) == ""
