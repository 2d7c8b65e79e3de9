from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbllama.engine.slots import Placement, SlotTable, common_prefix


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix_is_the_first_difference(a: list[int], b: list[int]) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    assert common_prefix(a, b) == expected


def fill(table: SlotTable, index: int, tokens: list[int], *, holder: str | None = None) -> None:
    table.hold(Placement(index, 0, None), holder or "job", tokens)
    table.extend(index, tokens)
    if holder is None:
        table.release(index)


def test_the_next_turn_continues_in_place() -> None:
    table = SlotTable(3)
    fill(table, 1, [1, 2, 3, 4])

    assert table.place([1, 2, 3, 4, 5]) == Placement(1, 4, None)


def test_one_token_is_always_left_to_compute() -> None:
    table = SlotTable(1)
    fill(table, 0, [1, 2, 3])

    assert table.place([1, 2, 3]) == Placement(0, 2, None)


def test_a_prefix_of_a_busy_sequence_is_copied() -> None:
    table = SlotTable(2)
    fill(table, 0, [1, 2, 3, 4], holder="busy")

    assert table.place([1, 2, 9]) == Placement(1, 2, 0)


def test_a_long_conversation_is_not_destroyed_for_a_short_common_prefix() -> None:
    table = SlotTable(2)
    fill(table, 0, list(range(100)))

    assert table.place([0, 1, 555, 556]) == Placement(1, 2, 0)


def test_memory_that_cannot_be_shared_is_not_copied() -> None:
    table = SlotTable(2, can_share=False)
    fill(table, 0, [1, 2, 3, 4], holder="busy")

    assert table.place([1, 2, 9]) == Placement(1, 0, None)


def test_no_place_when_every_slot_is_held() -> None:
    table = SlotTable(1)
    fill(table, 0, [1], holder="busy")

    assert table.place([1, 2]) is None


def test_the_oldest_idle_slot_is_evicted_first() -> None:
    table = SlotTable(3)
    fill(table, 2, [1])
    fill(table, 0, [2])
    fill(table, 1, [3], holder="busy")

    assert table.oldest_idle() == 2
