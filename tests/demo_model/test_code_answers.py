"""The Python that the models learn to answer with runs, and does what was asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

DATA = Path(__file__).resolve().parents[2] / "demo_model" / "data"
ENTRIES: list[dict[str, Any]] = yaml.safe_load((DATA / "code.yaml").read_text(encoding="utf-8"))
CHECKED = [entry for entry in ENTRIES if "check" in entry]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_many_answers_are_checked() -> None:
    assert len(CHECKED) >= 70


@pytest.mark.parametrize("entry", CHECKED, ids=[entry["ask"][0] for entry in CHECKED])
def test_function_does_what_was_asked_for(entry: dict[str, Any]) -> None:
    for answer in entry["answers"]:
        blocks = PYTHON.findall(answer)
        assert len(blocks) == 1
        namespace: dict[str, Any] = {}
        exec(blocks[0], namespace)
        exec(entry["check"], namespace)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["ask"][0] for entry in ENTRIES])
def test_python_is_well_formed(entry: dict[str, Any]) -> None:
    for answer in entry["answers"]:
        for block in PYTHON.findall(answer):
            lines = (line for line in block.splitlines() if not line.startswith("%"))
            compile("\n".join(lines), "answer", "exec")
