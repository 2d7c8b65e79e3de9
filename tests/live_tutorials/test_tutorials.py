"""Each tutorial, executed in a real kernel on the demo model, and on smollm2 where it is: as it is, and solved.

python -m pytest tests/live_tutorials
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tutorials

SECONDS = 240
"""For one cell. On a machine busy with eight other things tutorials took 10 to 19 (demo), 119 to 218 (smollm2)."""
MODELS = ["demo"] + [model for model in (tutorials.best_model(),) if model != "demo"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", tutorials.tutorials(), ids=lambda path: path.stem)
def test_its_solutions_pass_its_checks_and_each_cell_gives_what_it_says(path: Path, model: str) -> None:
    solved = tutorials.execute(tutorials.with_solutions(tutorials.read(path)), model, SECONDS)

    assert tutorials.problems(solved) == []
    assert tutorials.unsolved(solved) == []


@pytest.mark.parametrize("path", tutorials.tutorials(), ids=lambda path: path.stem)
def test_who_has_not_begun_is_told_so_without_an_error(path: Path) -> None:
    notebook = tutorials.execute(tutorials.read(path), "demo", SECONDS)

    assert tutorials.problems(notebook) == []
    checks = [cell.id for cell in tutorials.code_cells(notebook) if "check" in tutorials.tags(cell)]
    assert tutorials.unsolved(notebook) == checks
