"""The notebook that the browser looks at: each kind of answer, and what a hostile model would write.

The answers pass the same view as those of a model; the model's events are written down here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HOSTILE = (
    "<script>window.ran = 1</script> <img src=x onerror='window.ran = 1'> [a link](javascript:window.ran=1) "
    "<svg onload='window.ran=1'></svg> $$E = mc^2$$ and $\\href{javascript:window.ran=1}{x}$ "
    "\x1b[31mred\x1b[0m over\rwritten \u202edetrevni\n\n```python\nprint('<script>window.ran = 1</script>')\n```\n\n"
    "</code></pre></div><script>window.ran = 1</script>"
)
TEXT = """The function checks every divisor up to the **square root**:

```python
def is_prime(n):
    if n < 2: return False
    return all(n % d for d in range(2, int(n ** 0.5) + 1))  # {LONG}
```

| n | prime |
|---|---|
| 7 | yes |
| 9 | no |

1. It is short, and `is_prime(97)` is `True`.
2. A very long word: {WORD}

> It could be faster with a sieve.
""".replace("{LONG}", "a comment that is much longer than any line should be, " * 4).replace("{WORD}", "x" * 300)

PLAY = """
from IPython.display import display
from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.display import bundle

def play(events, ending="", footer="model · 12 tokens in, 34 out"):
    view = AnswerView()
    for event in events:
        view.add_data(event)
    view.ending = ending or view.ending
    display(bundle(view, footer), raw=True)
"""


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a content block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def thinking(index: int, text: str) -> list[dict[str, Any]]:
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, start, {"type": "thinking_delta", "thinking": text})


def text(index: int, words: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": words})


def call(index: int, name: str, **arguments: Any) -> list[dict[str, Any]]:
    start = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    return block(index, start, {"type": "input_json_delta", "partial_json": json.dumps(arguments)})


START: dict[str, Any] = {"type": "message_start", "message": {"usage": {}}}
WHOLE = [START, *thinking(0, "Divisors come in pairs.\n\nSo the root is enough. " * 3), *text(1, TEXT)]
WHOLE += call(2, "run_python", code="is_prime(97)", note="n" * 200)
EVIL = [START, *thinking(0, HOSTILE), *text(1, HOSTILE), *call(2, HOSTILE, **{HOSTILE: HOSTILE})]

TOOLS = f"""
hostile = {HOSTILE!r}
def look(at: str) -> str:
    "Looks at it."
    return hostile
def boom(at: str) -> str:
    raise ValueError(hostile)
def many(n: int) -> list:
    return list(range(n))
nbllama.run_tools("tools please", [look, boom, many])
"""

CELLS = [
    "%load_ext nbllama\nimport nbllama",
    PLAY,
    f"play({WHOLE!r})",
    f"play({[START, *text(0, 'It was a dark and stormy')]!r}, 'interrupted', 'model')",
    f"play({EVIL!r})",
    "%%llama -o answer\nhostile",
    "nbllama.last",
    "nbllama.last.df",
    "nbllama.traces()",
    "%%llama\nfails",
    "client = nbllama.client(max_retries=0)\nclient.messages.create(model='x', max_tokens=0, messages=[])",
    "%%llama --raw --chat pupil\nhostile",
    f"import pandas as pd\nprices = pd.DataFrame({{{HOSTILE!r}: [{HOSTILE!r}, 'x'] * 9}})",
    "%%llama -i prices\nIt was a dark and stormy night",
    "{}['<script>window.ran = 1</script>']",
    "%llama error -n 20",
    TOOLS,
]
FAIL = (9, 10, 14)
"""Which of the cells end in an error, as they should."""
PYTHONS = (14,)
"""Whose error is Python's, with its whole traceback."""


def write(folder: Path, name: str) -> None:
    """The notebook, and the script of its model beside it."""
    calls = [("look", {"at": HOSTILE}), ("boom", {"at": "x"}), ("many", {"n": 500}), ("many", {"n": "three"})]
    written = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls]
    rules = [
        {"when": "tools please", "answer": "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in written)},
        {"when": "tool_response", "answer": "Nothing of it ran."},
        {"when": "hostile", "answer": f"<think>{HOSTILE}</think>{HOSTILE}"},
        {"when": "fails", "answer": "This answer will end in an err", "fail_after": 5},
    ]
    (folder / "model.json").write_text(json.dumps({"rules": rules}))
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{n}",
            "source": source,
            "metadata": {"tags": ["raises-exception"]} if n in FAIL else {},
            "outputs": [],
            "execution_count": None,
        }
        for n, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / name).write_text(json.dumps(notebook))
