"""docs/magics.md has every option and every command, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from nbllama.notebook.magics.commands import COMMANDS
from nbllama.notebook.magics.llama import NbllamaMagics

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "magics.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*?) \|", TEXT, flags=re.MULTILINE)


def test_every_option_is_told_and_no_other() -> None:
    told = {option for row in ROWS if row.startswith("`-") for option in re.findall(r"`(--?[a-z-]+)", row)}

    assert told == {name for action in NbllamaMagics.llama.parser._actions for name in action.option_strings}


def test_every_command_is_told_and_no_other() -> None:
    told = [match[1] for row in ROWS if (match := re.match(r"`%llama (\w+)", row))]

    assert sorted(told) == sorted(COMMANDS)
