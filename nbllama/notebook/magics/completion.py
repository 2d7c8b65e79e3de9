"""Tab in `%llama` and `%%llama`: commands, options, and what each takes. A matcher of IPython's second interface."""

# IPython's decorators are not typed.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from nbllama.errors import NbllamaError
from nbllama.notebook import served_models
from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics.conversation import conversations
from nbllama.notebook.magics.running import ALL, own_requests
from nbllama.worker.connection import Endpoint

IDENTIFIER = "nbllama"

_LINE = re.compile(r"(?:^|=)\s*%llama\s+(?P<words>.*)$")
_CELL = re.compile(r"\s*%%llama\s+(?P<words>.*)")
_OPEN_NAME = re.compile(r"\{\{\s*(\w*)$")
NAMES = ("demo", "smollm2", "smollm2:base")
_MOST_FILES = 50
_FRAMES = ("DataFrame", "Series", "Table")
_SHORTLY = 2.0
"""Seconds that a worker may take for what Tab asks; it blocks the notebook meanwhile."""

Words = Callable[[], Iterable[str]]


class Completer:
    """Completes for one shell. `commands` → what may follow each; `parser` has the options."""

    def __init__(self, shell: InteractiveShell, parser: argparse.ArgumentParser, commands: Mapping[str, Words]) -> None:
        self._shell, self._commands = shell, commands
        self._options = {name: action for action in parser._actions for name in action.option_strings}

    def install(self) -> None:
        """Adds the matcher; IPython has no call for that."""
        self._shell.Completer.custom_matchers.append(self._matcher())

    def remove(self) -> None:
        """Takes it away again, whichever completer added it."""
        matchers: Any = self._shell.Completer.custom_matchers
        matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != IDENTIFIER]

    def candidates(self, context: CompletionContext) -> Iterable[str] | None:
        """What may stand at the cursor; None where it is not in one of our lines."""
        line = context.text_until_cursor
        if match := _CELL.match(line) or _LINE.search(line):
            in_cell = match.re is _CELL
            if in_cell and _OPEN_NAME.search(line):
                return self._variables()
            return self._after(match["words"].split(), line, in_cell=in_cell)
        in_prompt = _CELL.match(context.full_text.lstrip()) and _OPEN_NAME.search(line)
        return self._variables() if in_prompt else None

    def _matcher(self) -> Any:
        @context_matcher(identifier=IDENTIFIER, priority=1)
        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            found = self.candidates(context)
            if found is None:
                return {"completions": []}
            begun = context.token
            chosen = sorted({one for one in found if one.startswith(begun)})
            return {"completions": [SimpleCompletion(one, type="llama") for one in chosen], "suppress": True}

        return matcher

    def _after(self, words: list[str], line: str, *, in_cell: bool) -> Iterable[str]:
        done = words if not words or line[-1:].isspace() else words[:-1]
        option = self._options.get(done[-1]) if done else None
        if option is not None and option.nargs != 0:
            return self._values(option.dest)
        command = done[0] if done and not in_cell else ""
        if command in self._commands:
            return self._commands[command]()
        return [*self._options] if in_cell or command else [*self._commands]

    def _values(self, dest: str) -> Iterable[str]:
        match dest:
            case "model":
                return model_ids()
            case "chat":
                return conversations.names()
            case "include":
                return [name for name in self._variables() if type(self._shell.user_ns[name]).__name__ in _FRAMES]
            case "output":
                return self._variables()
        return []

    def _variables(self) -> list[str]:
        hidden = self._shell.user_ns_hidden
        return [name for name in self._shell.user_ns if not name.startswith("_") and name not in hidden]


def model_ids() -> list[str]:
    """Of the server that would be asked; none where it would have to be started."""
    return _asked(lambda endpoint: served_models.model_ids(endpoint, timeout=_SHORTLY))


def request_ids() -> list[str]:
    """Of the requests that run, and what ends them all."""
    return [ALL, *_asked(lambda endpoint: [str(one["id"]) for one in own_requests(endpoint)])]


def loadable() -> list[str]:
    """What `%llama load` takes by name, and the files of models that are here."""
    return [*NAMES, *(path.name for path in sorted(Path().glob("*.gguf"))[:_MOST_FILES])]


def _asked(ask: Callable[[Endpoint], list[str]]) -> list[str]:
    # Tab says nothing about what is wrong: the command does.
    with contextlib.suppress(NbllamaError, KeyError):
        endpoint = link.running()
        return ask(endpoint) if endpoint is not None else []
    return []
