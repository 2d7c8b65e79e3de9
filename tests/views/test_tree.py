"""Answers to one prompt as a tree: the common text once, each branch with its token, its probability and its end."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nbllama.views.masking import covered_record
from nbllama.views.probabilities import Probabilities
from nbllama.views.tree import MOST_ANSWERS, Tree
from tests.views.test_views import tags

KEY = " sk-ant-api03-0123456789abcdef"
WORDS = ["The", " weather", " in", " Paris", " is", " fine", " bad", " Rome", "<script>", "\n", KEY]
AT = {word: id for id, word in enumerate(WORDS)}


def answer(id: str, *words: str, ending: str = "done", **alternatives: list[tuple[str, float]]) -> dict[str, Any]:
    """A record of these words; `alternatives` by their place: `t3=[(" Paris", 0.6), …]`."""
    ids = [AT[word] for word in words]
    tops = [alternatives.get(f"t{place}", [(word, 0.9)]) for place, word in enumerate(words)]
    probabilities = [
        {
            "logprob": next((math.log(p) for other, p in top if other == word), None),
            "top": [[AT[other], math.log(p)] for other, p in top],
        }
        for word, top in zip(words, tops, strict=True)
    ]
    pieces = {str(n): word.encode().hex() for n, word in enumerate(WORDS)}
    return {
        "id": id,
        "output_ids": ids,
        "output_text": "".join(words),
        "pieces": pieces,
        "probabilities": probabilities if alternatives else [],
        "ending": ending,
    }


ORIGIN = answer("req_1", "The", " weather", " in", " Paris", " is", " fine", t3=[(" Paris", 0.6), (" Rome", 0.3)])
ROME = answer("req_2", "The", " weather", " in", " Rome", " is", " bad", ending="max_tokens")
BAD = answer("req_3", "The", " weather", " in", " Paris", " is", " bad", t5=[(" fine", 0.5), (" bad", 0.25)])
FAMILY = [ORIGIN, ROME, BAD]


def test_what_they_share_stands_once_and_each_branch_where_it_leaves() -> None:
    assert Tree(FAMILY).text().splitlines() == [
        "Branches",
        "  3 answers; they part at tokens 3, 5.",
        "The weather in",
        "├─ 3: [·Paris] 60%  is",
        "│  ├─ 5: [·fine] 90% → done (req_1)",
        "│  └─ 5: [·bad] 25% → done (req_3)",
        "└─ 3: [·Rome] 30%  is bad → max_tokens (req_2)",
    ]


def test_of_many_answers_only_one_is_asked_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Probabilities.alternatives

    def counted(view: Probabilities) -> Any:
        asked.append(view.reading.text("id"))
        return real(view)

    monkeypatch.setattr(Probabilities, "alternatives", counted)
    tree = Tree([ORIGIN, *({**ROME, "id": f"req_{n}"} for n in range(20))])
    assert "[·Rome] 30%" in tree.text() and asked == ["req_1"]


def test_rows_are_plain_and_name_tokens_and_traces() -> None:
    rows = Tree(FAMILY).rows()

    assert json.loads(json.dumps(rows)) == rows
    assert [tuple(row) for row in rows] == [Tree.columns] * 5
    assert [(row["level"], row["at"], row["token"], row["p"], row["trace"]) for row in rows] == [
        (0, 0, None, None, None),
        (1, 3, "·Paris", 0.6, None),
        (2, 5, "·fine", 0.9, "req_1"),
        (2, 5, "·bad", 0.25, "req_3"),
        (1, 3, "·Rome", 0.3, "req_2"),
    ]
    assert sum(row["tokens"] for row in rows) == 3 + 2 + 1 + 1 + 3


def test_the_same_answer_again_and_one_that_ends_inside_of_another() -> None:
    short = answer("req_4", "The", " weather", ending="max_tokens")
    tree = Tree([ORIGIN, {**ORIGIN, "id": "req_5"}, short])

    assert tree.text().splitlines()[1:] == [
        "  3 answers; none leaves the others.",
        "The weather → max_tokens (req_4)",
        "└─ 2: [·in] 90%  Paris is fine → done (req_1) → done (req_5)",
    ]
    assert Tree([ORIGIN]).summary() == ["1 answer, not forked yet."]


def test_html_is_static_escaped_and_indented() -> None:
    evil = answer("<img src=x>", "The", "<script>", "\n", t1=[("<script>", 0.5)])
    html = Tree([ORIGIN, evil]).html()

    assert tags(html) <= {"div", "span"}
    assert "&lt;script&gt;" in html and "&lt;img" in html
    assert html.count("border-left") == 2 and html.count(">The<") == 1
    assert "background:transparent" not in html and "color:#fff" not in html.replace("background:#fff", "")


def test_what_is_covered_stays_so() -> None:
    key = answer("req_6", "The", KEY)
    tree = Tree([covered_record(record) for record in (ORIGIN, key)])

    for said in (tree.text(), tree.html(), json.dumps(tree.rows())):
        assert "0123456789" not in said
    assert tree.rows()[-1]["id"] is None


@pytest.mark.parametrize(
    "broken", [{}, {"output_ids": "x"}, {"output_ids": [1, 2], "ending": None, "pieces": 3}], ids=str
)
def test_what_is_missing_is_no_error(broken: dict[str, Any]) -> None:
    for records in ([], [broken], [broken, ORIGIN], [ORIGIN, broken]):
        tree = Tree(records)
        assert isinstance(tree.rows(), list)
        assert tree.text().startswith("Branches") and tree.html()


def test_many_and_long_answers_are_bounded() -> None:
    long = [answer(f"req_{n}", *["The"] * n, *["<script>"] * 1000) for n in range(MOST_ANSWERS + 20)]
    tree = Tree(long)

    assert len(tree.html()) < 1_000_000
    assert "20 answers left out" in tree.text()
