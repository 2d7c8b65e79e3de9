"""What a run with tools leaves: its messages, its steps, its calls, as objects and as a table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.phrases import counted
from nbllama.notebook.tools import view
from nbllama.notebook.tools.calling import Call
from nbllama.notebook.trace import Trace, as_message

if TYPE_CHECKING:
    import pandas as pd
    from anthropic.types import Message

_COLUMNS = ["step", "tool", "arguments", "result", "state", "time_s"]


@dataclass
class Step:
    """One answer of the model, and the calls that it made, in order. `note` is why nothing comes after it, if told."""

    number: int
    answer: AnswerView = field(default_factory=AnswerView)
    calls: list[Call] = field(default_factory=list)
    note: str = ""
    footer: str = ""
    trace: Trace | None = None

    @property
    def message(self) -> Message | None:
        """The answer as the SDK's Message; None if it had not begun."""
        message = self.answer.message()
        return as_message(message) if message is not None else None

    def __repr__(self) -> str:
        return f"Step({self.number}, {[call.name for call in self.calls]})"


class ToolRun:
    """One prompt with tools, from the first answer to the last.

    `messages` is the whole conversation, ready to be sent on: each call in it has its result. `steps` has one entry
    for each answer. `ending` is the last answer's stop_reason, or `max_steps`, `interrupted`, `failed`."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.steps: list[Step] = []
        self.ending = ""
        self._shown_in: int | None = None

    @property
    def calls(self) -> list[Call]:
        """Those of all steps."""
        return [call for step in self.steps for call in step.calls]

    @property
    def message(self) -> Message | None:
        """The last answer, as the SDK's Message; None if none had begun."""
        return self.steps[-1].message if self.steps else None

    @property
    def text(self) -> str:
        """The text of the last answer."""
        return "".join(self.steps[-1].answer.texts) if self.steps else ""

    @property
    def df(self) -> pd.DataFrame:
        """The calls as a table: step, tool, arguments, result (what the model read), state, time_s."""
        from nbllama.notebook.table import Table

        rows = [(step.number, *_row(call)) for step in self.steps for call in step.calls]
        return Table(rows, columns=_COLUMNS).astype({"step": "int64", "time_s": "float64"})

    def shown_in(self, cell: int | None) -> None:
        """Notes the number of the cell that has shown this run while it ran."""
        self._shown_in = cell

    def __repr__(self) -> str:
        return f"ToolRun({counted(len(self.steps), 'step')}, {counted(len(self.calls), 'call')}, {self.ending!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # As the last line of the cell that ran it, it stands on the screen already.
        if self._shown_in is not None and self._shown_in == cell_number():
            return {"text/plain": repr(self)}
        return view.bundle(self.steps)


def cell_number() -> int | None:
    """Of the cell that runs now; None outside IPython."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell.execution_count if shell is not None else None


def _row(call: Call) -> tuple[str, str, str, str, float | None]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return call.name, arguments, view.text_of(call.content), call.state, call.seconds
