from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nbllama.chat.format import from_data
from nbllama.chat.pieces import ToolStart
from tests.chat.conftest import SHARED, TEMPLATES
from tests.chat.formats import complete_calls, parse

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not TEMPLATES, reason=f"no templates in {SHARED}: set NBLLAMA_SHARED")
def test_the_table_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "formats_table.py"), str(SHARED / "templates"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_new_family_works() -> None:
    example = re.search(r"```json\n(\{\n  \"think\".*?)```", DOCS, re.DOTALL)
    assert example
    format = from_data(json.loads(example.group(1)))
    pieces = parse(format, ['<thought>hm</thought>Hi<run tool="f"><set a>x</set><set n>3</set></run><end>'])
    assert complete_calls(pieces) == [("f", {"a": "x", "n": 3})]
    assert any(isinstance(piece, ToolStart) for piece in pieces)


def test_the_files_that_it_names_are_there() -> None:
    for path in re.findall(r"`(nbllama/[\w/]+\.py|tests/[\w/]+\.py|scripts/[\w/]+\.py)`", DOCS):
        assert (ROOT / path).exists(), path
