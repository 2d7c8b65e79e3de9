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


def turn(table: SlotTable, prompt: list[int], answer: list[int] | None = None) -> int:
    """One request on an idle table; how many tokens of its prompt were computed."""
    placement = table.place(prompt)
    assert placement is not None
    table.hold(placement, "job", prompt)
    table.extend(placement.slot, [*prompt[placement.keep :], *(answer or [])])
    table.release(placement.slot)
    return len(prompt) - placement.keep


def words(seed: int, n: int) -> list[int]:
    return [seed * 1_000_000 + i for i in range(n)]


def test_conversations_that_share_a_long_beginning_do_not_take_each_others_turns() -> None:
    table = SlotTable(4)
    system = words(0, 2000)
    conversations = [system + words(seed, 30) for seed in (1, 2)]
    for conversation in conversations:
        turn(table, conversation)

    for n in range(5):
        for seed, conversation in enumerate(conversations):
            new = words(10 + seed + 2 * n, 100)
            conversation += new
            assert turn(table, conversation) == len(new)


def test_a_long_conversation_outlives_many_short_requests() -> None:
    table = SlotTable(4)
    conversation = words(0, 5000)
    turn(table, conversation)
    for seed in range(1, 100):
        assert turn(table, words(seed, 80)) == 80

    conversation += words(200, 50)
    assert turn(table, conversation) == 50


def test_a_conversation_that_nobody_continues_goes_at_last() -> None:
    table = SlotTable(4)
    turn(table, words(0, 5000))
    for seed in range(1, 400):
        turn(table, words(seed, 80))

    assert turn(table, words(0, 5001)) == 5001


def test_of_conversations_alike_the_oldest_goes_first() -> None:
    table = SlotTable(3)
    for seed in (1, 2, 3):
        turn(table, words(seed, 500))
    turn(table, words(1, 510))

    turn(table, words(4, 500))

    assert turn(table, words(1, 520)) == 10
    assert turn(table, words(3, 510)) == 10
    assert turn(table, words(2, 510)) == 510


def test_branches_that_are_left_go_before_what_they_left() -> None:
    table = SlotTable(4)
    conversation = words(0, 3000)
    turn(table, conversation, words(1, 200))
    for seed in range(2, 12):
        # A turn whose thinking is dropped: the prompt branches off before the answer, and leaves it.
        assert turn(table, conversation + words(seed, 100), words(seed + 100, 200)) == 100

    assert turn(table, conversation + words(11, 100) + words(111, 200) + words(500, 10)) == 10


def test_a_trimmed_end_is_overwritten_where_it_is() -> None:
    table = SlotTable(4)
    turn(table, words(0, 1000), words(1, 3))

    assert table.place(words(0, 1000) + words(2, 5)) == Placement(0, 1000, None)
