"""The files of the tutorials as they are committed; tests/live_tutorials executes them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import nbformat
import pytest
import tutorials
from tutorials import code_cells, problems, tags, text, with_solutions

from notebooks import lesson

PATHS = tutorials.tutorials()
each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
NOT_IN_OUTPUTS = (
    r"(?<![\w/.<])/(home|root|tmp|work|Users|usr|opt|var)/",
    r"\bsk-[A-Za-z0-9]",
    r"\b(msg|req|toolu)_[A-Za-z0-9]{6,}",
    r"\d tokens/s",
    r"\bpid \d",
    r"\d\.\d+ s\b",
)


@each
def test_it_states_goals_reading_time_and_glossary(path: Path) -> None:
    notebook = tutorials.read(path)

    assert "**You will learn**" in notebook.cells[0].source
    assert 20 <= (tutorials.minutes(notebook) or 0) <= 40
    assert any(cell.source.startswith("## Glossary") for cell in notebook.cells)


@each
def test_each_exercise_has_a_check_and_a_hidden_solution(path: Path) -> None:
    notebook = tutorials.read(path)
    order = [tag for cell in notebook.cells for tag in tags(cell) if tag in ("exercise", "check", "solution")]

    assert order in (["exercise", "check", "solution"] * n for n in (2, 3))
    for cell in notebook.cells:
        if "solution" in tags(cell):
            assert cell.source.startswith("<details>") and cell.source.endswith("</details>")
    exercises = [cell for cell in with_solutions(notebook).cells if "exercise" in tags(cell)]
    assert all("..." not in cell.source for cell in exercises)


@each
def test_its_outputs_are_of_one_run_and_of_no_machine(path: Path) -> None:
    notebook = tutorials.read(path)

    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert problems(notebook) == []
    assert of_a_machine(notebook) == []
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_the_welcome_notebook_shows_nothing_of_a_machine() -> None:
    assert of_a_machine(tutorials.read(tutorials.FOLDER / "00_welcome.ipynb")) == []


def of_a_machine(notebook: Any) -> list[tuple[str, str]]:
    """The id of each cell whose outputs hold what is of one run or one machine, and the pattern that found it."""
    cells = code_cells(notebook)
    return [(cell.id, pattern) for cell in cells for pattern in NOT_IN_OUTPUTS if re.search(pattern, text(cell))]


def test_a_check_tells_the_first_broken_rule(capsys: pytest.CaptureFixture[str]) -> None:
    rules = ((lambda made: made["role"] == "user", "the role is missing"), (lambda made: made["n"], "no n"))

    for made in (..., {}, {"role": "user", "n": 0}, {"role": "user", "n": 1}):
        lesson.check(made, *rules, well="Well done.")

    assert [line[:21] for line in capsys.readouterr().out.splitlines() if line[0] != " "] == [
        "✗ Not started: write ",
        "✗ Not yet: the role i",
        "✗ Not yet: no n",
        "✓ Right. Well done.",
    ]


def test_a_guess_is_compared_and_nothing_is_told_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    for guess in (..., "maybe", "yes", "no"):
        lesson.reveal(guess, "no", ("yes", "no"), "Because.")

    none, unknown, wrong, right = capsys.readouterr().out.splitlines()
    assert none.startswith(lesson.NOT_YET) and "Because" not in none
    assert unknown.startswith(lesson.NOT_YET) and "Because" not in unknown
    assert wrong == "○ You guessed 'yes'; it is 'no'. Because."
    assert right == "✓ You guessed 'no', and so it is. Because."


def test_an_id_is_masked_alike_wherever_it_is_and_paths_and_rates_go() -> None:
    notebook = tutorials.read(PATHS[0])
    cell = next(cell for cell in code_cells(notebook) if cell.outputs)
    said = "toolu_0123abcdEF toolu_99999999 toolu_0123abcdEF 1,450.5 tokens/s /home/ada/x.gguf sk-ant-0123456789 0.25 s"
    said += f" {socket.gethostname()}"
    cell.outputs[:] = [nbformat.from_dict({"output_type": "stream", "name": "stdout", "text": said})]  # type: ignore[no-untyped-call]  # nbformat is not typed

    tutorials.mask(notebook)

    first, second, again, rate, _, path, key, seconds, _, host = text(cell).split()
    assert first == again != second
    assert (rate, path, key, seconds, host) == ("…", "/…", "sk-…", "…", "…")
