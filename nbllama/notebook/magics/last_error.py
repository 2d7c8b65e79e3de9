"""`%llama error`: the last cell that failed, and its traceback, as a question."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.errors import ShortError

_MOST_CHARACTERS = 4_000
"""Of a cell, and of a traceback: their middle is left out."""

# The name of a cell's file is long, and another one in each kernel.
_CELL = re.compile(r'File "[^"\n]*(?:ipykernel_\d+[/\\]|<ipython-input)[^"\n]*"')

_QUESTION = "What is wrong, and how is it mended?"


@dataclass(frozen=True)
class FailedCell:
    """A cell's text and what it raised."""

    source: str
    error: BaseException


class LastError:
    """Remembers the last cell that failed. `post_run_cell` is for the `events` of IPython."""

    def __init__(self) -> None:
        self.failed: FailedCell | None = None

    def post_run_cell(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        # What the magics say of themselves, and the stop button, are nothing to ask a model about.
        if isinstance(error, Exception) and not isinstance(error, ShortError | UsageError):
            self.failed = FailedCell(result.info.raw_cell, error)

    def prompt(self, question: str) -> str:
        """The question with the cell and the traceback. Raises UsageError if no cell has failed."""
        if self.failed is None:
            raise UsageError("%llama error: no cell has failed since %load_ext nbllama")
        return (
            f"This cell of a Jupyter notebook failed:\n\n```python\n{_cut(self.failed.source.strip())}\n```\n\n"
            f"```\n{_cut(traceback_text(self.failed.error))}\n```\n\n{question or _QUESTION}"
        )


def traceback_text(error: BaseException) -> str:
    """As Python shows it, without the frames of IPython above the cell."""
    whole = traceback.TracebackException.from_exception(error)
    shown: traceback.TracebackException | None = whole
    while shown is not None:
        shown.stack = traceback.StackSummary.from_list(_of_the_user(shown.stack))
        shown = shown.__cause__ or shown.__context__
    return _CELL.sub('File "cell"', "".join(whole.format())).rstrip()


def _of_the_user(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    return [frame for frame in stack if "/IPython/" not in frame.filename.replace("\\", "/")]


def _cut(text: str) -> str:
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]}\n…\n{text[-half:]}"


last_error = LastError()
"""Of this kernel."""
