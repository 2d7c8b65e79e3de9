from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllama.answer.partial_json import PartialJson

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), values, max_size=5)


def as_text(value: dict[str, Any], style: int) -> str:
    separators = [(",", ":"), (", ", ": "), (" ,\n", " :\t")][style % 3]
    return json.dumps(value, ensure_ascii=style % 2 == 0, separators=separators)


@given(objects, st.integers(0, 5), st.integers(1, 7))
def test_a_whole_object_passes_unchanged_in_any_pieces(value: dict[str, Any], style: int, size: int) -> None:
    text = as_text(value, style)
    partial = PartialJson()

    passed = "".join(partial.feed(text[i : i + size]) for i in range(0, len(text), size))

    assert json.loads(passed) == value
    assert partial.complete
    assert partial.close() == ""


@given(objects, st.integers(0, 5), st.data())
def test_cut_anywhere_it_closes_to_an_object(value: dict[str, Any], style: int, data: st.DataObject) -> None:
    text = as_text(value, style)
    cut = data.draw(st.integers(0, len(text)))
    partial = PartialJson()

    passed = partial.feed(text[:cut])
    closed = json.loads(passed + partial.close())

    assert isinstance(closed, dict)
    assert set(closed) <= set(value)


@given(st.text(alphabet='{}[]",:\\ u0dtrue1.eE-é\n', max_size=40))
def test_whatever_a_model_writes_it_closes_to_an_object(text: str) -> None:
    partial = PartialJson()

    passed = partial.feed("{" + text)

    assert isinstance(json.loads(passed + partial.close()), dict)


@pytest.mark.parametrize(
    ("cut", "closed"),
    [
        ('{"city": "Par', '{"city": "Par"}'),
        ('{"city": "Paris", "da', '{"city": "Paris"}'),
        ('{"city": "Paris", "days": 1', '{"city": "Paris"}'),
        ('{"list": [1, 2, {"a": "b', '{"list": [1, 2, {"a": "b"}]}'),
        ('{"text": "tab\\', '{"text": "tab"}'),
        ("", "{}"),
    ],
)
def test_examples(cut: str, closed: str) -> None:
    partial = PartialJson()

    assert partial.feed(cut) + partial.close() == closed


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ' + "[" * 2000 + "]" * 2000 + "}",
        '{"a": 1e999}',
        r'{"a\q": 1}',
        r'{"a\ud83d": 1}',
        r'{"a": "\ud83d x"}',
        r'{"a": "\udc00"}',
    ],
)
def test_what_json_or_utf8_cannot_carry_is_not_passed_on(text: str) -> None:
    partial = PartialJson()
    value = json.loads(partial.feed(text) + partial.close())

    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
