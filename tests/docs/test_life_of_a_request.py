"""The page names files and functions; they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "life-of-a-request.md"
# `engine/loop.py` `EngineLoop.submit`
REFERENCES = re.findall(r"`([\w/]+\.py)`(?:\s`([\w.]+)`)?", PAGE.read_text(encoding="utf-8"))


def names_in(path: Path) -> set[str]:
    """What a module defines: functions, classes and `Class.method`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_the_page_names_the_whole_way() -> None:
    folders = {file.split("/")[0] for file, _ in REFERENCES}
    assert {"server", "worker", "wire", "answer", "chat", "engine"} <= folders
    assert len(REFERENCES) >= 20


@pytest.mark.parametrize(("file", "name"), sorted(set(REFERENCES)))
def test_what_it_names_exists(file: str, name: str) -> None:
    path = ROOT / "nbllama" / file
    assert path.is_file()
    assert not name or name in names_in(path), f"{file} has no {name}"
