"""Groups become packs: what is shared, what is learnt, where a resumed run goes on."""

from __future__ import annotations

from itertools import islice

import pytest

from demo_model.packing import Branch, Pack, Packs, Sample, Span, bins, encode_dialogue, encode_group, fit, pack
from tests.demo_model.dialogues import Group, groups


def letters(text: str) -> list[int]:
    """A token a letter, and "ab" is one token."""
    return [ord(letter) for letter in text.replace("ab", "\1")]


def test_a_run_of_text_is_cut_only_where_an_answer_begins_or_ends() -> None:
    dialogue = encode_dialogue([("xa", False), ("b", False), ("a", True), ("b", True), ("c", False)], letters)
    assert dialogue.ids == letters("xab") + letters("ab") + letters("c")
    assert dialogue.learn == [False, False, True, False]


def test_an_answer_starts_with_a_new_token() -> None:
    assert encode_dialogue([("xa", False), ("b", True)], letters).ids == [ord("x"), ord("a"), ord("b")]


def test_a_token_over_the_prefixs_end_is_not_shared() -> None:
    sample = encode_group(Group("xa", [[("b", False), ("y", True)], [("c", False), ("y", True)]]), letters)
    assert sample.prefix == [ord("x")]
    assert [branch.ids for branch in sample.branches] == [[1, ord("y")], [ord("a"), ord("c"), ord("y")]]


def test_what_is_learnt_is_not_shared() -> None:
    sample = encode_group(Group("p", [[("same", True)], [("same", True)]]), letters)
    assert sample.prefix == [ord("p")]
    assert all(branch.learn == [True] * 4 for branch in sample.branches)


def test_a_single_dialogue_keeps_a_token_of_its_own() -> None:
    sample = encode_group(Group("pq", [[("r", False)]]), letters)
    assert (sample.prefix, sample.branches[0].ids) == (letters("pq"), letters("r"))


def test_positions_go_on_behind_the_prefix_and_its_last_row_predicts_each_branchs_first_token() -> None:
    whole = pack([Sample([7, 8], [Branch([1, 2], [True, True]), Branch([3], [True])])])
    assert whole.ids == [7, 8, 1, 2, 3]
    assert whole.positions == [0, 1, 2, 3, 2]
    assert whole.spans == [Span(0, 2), Span(2, 4, (0, 2)), Span(4, 5, (0, 2))]
    assert (whole.sources, whole.targets) == ([1, 2, 1], [1, 2, 3])
    assert (whole.dialogues, whole.unshared_rows) == (2, 7)


def test_branches_that_do_not_fit_are_left_out() -> None:
    sample = Sample([0] * 5, [Branch([1] * 4, [True] * 4), Branch([2] * 2, [True] * 2)])
    assert fit(sample, 8) == Sample(sample.prefix, sample.branches[1:])
    assert fit(sample, 6) is None


def test_bins_hold_every_sample_once_and_no_more_rows_than_allowed() -> None:
    samples = [Sample([0] * size, [Branch([1], [True])]) for size in (9, 3, 5, 5, 2, 7, 1)]
    filled = bins(samples, 10)
    assert all(sum(sample.rows for sample in inside) <= 10 for inside in filled)
    assert sorted(sample.rows for inside in filled for sample in inside) == sorted(sample.rows for sample in samples)
    assert len(filled) == 4


def packs(seed: int = 1) -> Packs:
    return Packs(groups, letters, seed=seed, rows=1500, window=6)


@pytest.mark.parametrize("before", [0, 1, 5, 11])
def test_a_restored_stream_goes_on_with_the_very_next_pack(before: int) -> None:
    first, again = packs(), packs(seed=2)
    for _ in range(before):
        first.take()
    again.restore(first.state())
    assert again.state() == first.state()
    for _ in range(9):
        assert again.take() == first.take()


def test_seeds_give_different_packs() -> None:
    assert packs(1).take() != packs(2).take()


def test_nothing_is_lost_between_groups_and_packs() -> None:
    stream = packs()
    taken: list[Pack] = []
    while stream.state()["windows"] < 2:
        taken.append(stream.take())
    expected = [encode_group(group, letters) for group in islice(groups(1), 12)]
    assert sum(len(whole.ids) for whole in taken) == sum(sample.rows for sample in expected)
    assert sum(whole.dialogues for whole in taken) == sum(len(sample.branches) for sample in expected)


def test_dialogues_that_are_too_long_are_an_error_not_an_endless_loop() -> None:
    with pytest.raises(ValueError, match="--rows"):
        Packs(groups, letters, seed=1, rows=20, window=2).take()
