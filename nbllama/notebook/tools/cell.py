"""`%%llama --tools f,g`: the functions are named, and found among the cell's variables."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllama.notebook.ask import Question
from nbllama.notebook.near import near_variable
from nbllama.notebook.tools.loop import MAX_STEPS, ToolLoop
from nbllama.notebook.tools.toolbox import Toolbox


def run_cell(
    shell: InteractiveShell,
    question: Question,
    names: str,
    *,
    confirm: bool = False,
    max_steps: int | None = None,
    output: str | None = None,
) -> None:
    """Runs it; `output` names the variable that keeps the ToolRun, also one that was broken off. Raises UsageError."""
    toolbox = Toolbox(_function(name.strip(), shell.user_ns) for name in names.split(",") if name.strip())
    loop = ToolLoop(question, toolbox, confirm, MAX_STEPS if max_steps is None else max_steps)
    try:
        loop.run()
    finally:
        if output is not None:
            shell.push({output: loop.result})  # type: ignore[no-untyped-call]  # IPython


def _function(name: str, variables: dict[str, Any]) -> Any:
    """A variable, or `module.function`."""
    first, *rest = name.split(".")
    if first not in variables:
        fix = near_variable(first, variables) or "define it in a cell above"
        raise UsageError(f"%%llama --tools: there is no function {first}\n→ {fix}")
    value = variables[first]
    for part in rest:
        if not hasattr(value, part):
            fix = near_variable(part, dir(value)) or f"dir({first}) lists what it has"
            raise UsageError(f"%%llama --tools {name}: {first} has no {part}\n→ {fix}")
        value = getattr(value, part)
    return value
