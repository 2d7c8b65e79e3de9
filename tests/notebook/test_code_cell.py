"""The code of an answer."""

from __future__ import annotations

import pytest

from nbllama.notebook.magics.code_cell import CUT_OFF, FIRST_LINE, cell_of

CASES = {
    "one": ("So:\n\n```python\nx = 1\n```\nDone.", "x = 1"),
    "two": ("```py\nx = 1\n```\nand\n```Python title=a\ny = 2\n```", "x = 1\n\ny = 2"),
    "its output is no code": ("```python\nprint(1)\n```\n```\n1\n```", "print(1)"),
    "no language": ("~~~\nx = 1\n~~~", "x = 1"),
    "another language": ("```bash\nrm -r x\n```", None),
    "in a list": ("- first\n\n  ```python\n  if x:\n      y = 1\n  ```\n", "if x:\n    y = 1"),
    "unfinished": ("```python\nx = 1\ny =", "x = 1\ny ="),
    "none": ("Use `x = 1`.", None),
    "blank": ("```python\n\n```", None),
    "fences in a string": ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
    "what acts is seen": ("```python\nx = '\u202e\x1b[2J'\n```", "x = '[U+202E]␛[2J'"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_python_blocks_of_an_answer(case: str) -> None:
    answer, code = CASES[case]

    assert cell_of(answer, cut_off=False) == (None if code is None else f"{FIRST_LINE}\n{code}")


def test_a_cut_off_cell_says_so() -> None:
    assert cell_of("```python\nx = ", cut_off=True) == f"{FIRST_LINE}\nx = \n{CUT_OFF}"
