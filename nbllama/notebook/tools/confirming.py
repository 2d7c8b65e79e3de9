"""Asks before a call is run."""

from __future__ import annotations

import json

from nbllama.notebook.errors import ToolsError
from nbllama.notebook.tools.calling import Call
from nbllama.views.visible import visible

DECLINED = "The user declined this call."
_SHOWN = 300
"""Characters of the arguments in the question; the view above it has all of them."""


class Confirmation:
    """`yes` runs one, `all` the rest too; anything else declines, and is told to the model as the reason."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def refusal(self, call: Call) -> str | None:
        """What the model is told; None if the call may run. Raises ToolsError where nobody can be asked."""
        answer = _ask(_question(call)).strip()
        word = answer.lower()
        if word in ("a", "all"):
            self.wanted = False
        if word in ("y", "yes", "a", "all"):
            return None
        return DECLINED if word in ("", "n", "no") else f"{DECLINED} They said: {answer}"


def _question(call: Call) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    if len(arguments) > _SHOWN:
        arguments = f"{arguments[:_SHOWN]}… ({len(arguments):,} characters, all of them above)"
    # On one line: what a model writes must not look like a second question.
    text = visible(f"{call.name} {arguments}").replace("\n", " ")
    return f"Run {text}? [y]es, [n]o, [a]ll from now on, or why not: "


def _ask(question: str) -> str:
    try:
        return input(question)
    except (EOFError, NotImplementedError) as error:  # IPython's StdinNotImplementedError is one of these
        raise ToolsError(
            "confirm: nobody can be asked here, since this kernel has no input; nothing was run\n"
            "→ run it in a notebook or a terminal, or without confirm"
        ) from error
