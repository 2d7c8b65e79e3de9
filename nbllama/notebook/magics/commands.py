"""`%llama …`: the commands, what each takes, and what each does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from IPython.core.error import UsageError
from IPython.display import display

from nbllama.errors import NbllamaError
from nbllama.notebook import claude_code
from nbllama.notebook.display import in_terminal, say
from nbllama.notebook.errors import AskError, ShortError
from nbllama.notebook.interrupts import Interrupts
from nbllama.notebook.kernel_link import is_elsewhere, link
from nbllama.notebook.magics import completion
from nbllama.notebook.magics.chats import chats_text
from nbllama.notebook.magics.connect import claude_text, connect_text
from nbllama.notebook.magics.conversation import conversations
from nbllama.notebook.magics.getting import get_model
from nbllama.notebook.magics.load_progress import ProgressBar, load
from nbllama.notebook.magics.looking_inside import format_text, tokens_shown, trace_shown
from nbllama.notebook.magics.running import cancel_text, running_text
from nbllama.notebook.magics.status_text import models_text, status_text
from nbllama.notebook.near import near
from nbllama.notebook.served_models import model_line
from nbllama.views.visible import visible
from nbllama.worker import connection
from nbllama.worker.errors import WorkerError


@dataclass(frozen=True)
class Command:
    """`does` is told the words behind the name, `least` to `most` of them; what it answers is printed, or
    shown if it is no text. Without it, the model is asked, which the magic does itself.

    `takes` is what help shows of the words, `about` the rest of the line; `after` are words for Tab."""

    does: Callable[..., Any] | None
    about: str
    takes: str = ""
    least: int = 0
    most: int = 0
    after: Callable[[], Iterable[str]] = list


def command_of(words: list[str]) -> Command:
    """The one that is meant, its words counted. Raises UsageError."""
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        fix = near(name, COMMANDS) or "`%llama help` shows what each does"
        raise UsageError(f"%llama {name}: there is {', '.join(COMMANDS)} (and %%llama to ask)\n→ {fix}")
    if not command.least <= len(rest) <= command.most:
        usage = f"%llama {name} {command.takes}: {command.about}" if command.takes else ""
        raise UsageError(usage or f"%llama {name}: takes nothing more")
    return command


def run_command(words: list[str]) -> None:
    """Raises AskError, UsageError."""
    command = command_of(words)
    if command.does is None:
        raise UsageError(f"%llama {words[0]}: needs a shell to ask in")
    try:
        # In a cell with `await` the stop button would else be seen when the command has ended.
        with Interrupts():
            answer = command.does(*words[1:])
    except ShortError:
        raise
    except NbllamaError as error:
        raise AskError(error) from error
    if isinstance(answer, str):
        print(visible(answer))
    elif answer is not None:
        display(answer)  # type: ignore[no-untyped-call]  # IPython


def help_text() -> str:
    """Every option of `%%llama` and every command, a line each."""
    lines = [(f"%llama {name} {command.takes}".rstrip(), command.about) for name, command in COMMANDS.items()]
    return "\n".join([HELP, *(f"{what:<26} {about}" for what, about in lines), _LAST])


HELP = """\
%%llama                    ask: the cell below it is the prompt, {{name}} in it is the value of your variable `name`
    -s, --system TEXT      a system prompt
    -n, --max-tokens N     at most N tokens
    -t, --temperature T    0 (always the likeliest token) to 1
    --greedy               always the likeliest token
    --seed N               draw the same answer each time
    --thinking             let it think first
    --tools F,G            it may call these functions of yours
    --confirm              with --tools: ask before each call
    --steps N              with --tools: at most N answers (8)
    -m, --model MODEL      another model that is loaded
    -o, --output NAME      keep the Message as the variable NAME
    --raw                  show what the model wrote, with its marks, not as Markdown
    --chat NAME            go on with the conversation of this name, or begin it
    --drop                 with --chat: leave out the oldest turns if the context is full
    --code                 put the code of the answer into a new cell, which is not run
    -i, --include NAME     send along what the DataFrame NAME looks like
    --budget N             with -i: in N tokens at most"""

_LAST = f"{'nbllama.last':<26} what happened in the last request"


def _load(ref: str) -> None:
    endpoint = link.endpoint(on_wait=say)
    bar = ProgressBar(f"loading {ref}", terminal=in_terminal())
    try:
        model = load(endpoint, connection.absolute_reference(os.path.expanduser(ref)), bar.show)
    except KeyboardInterrupt:
        bar.finish(f"loading {ref}: nobody waits here any more; the worker loads on")
        raise
    bar.finish(f"loaded {model_line(model)}")


def _stop() -> str:
    if is_elsewhere():
        raise WorkerError("NBLLAMA_BASE_URL points at another server, which is not ended from here")
    endpoint = connection.find()
    link.detach()
    if endpoint is None:
        return "no worker is running"
    return "stopping the worker" if connection.stop(endpoint) else "the worker does not stop"


def _claude(form: str = "sh") -> str:
    if form not in claude_code.FORMS:
        raise UsageError(f"%llama claude {form}: there is {', '.join(claude_code.FORMS)}")
    return claude_text(form)


# Both bring pydantic, which %load_ext does without.
def _record(*words: str) -> str:
    from nbllama.notebook import cassettes

    return cassettes.record(list(words))


def _replay(*words: str) -> str:
    from nbllama.notebook import cassettes

    return cassettes.replay(list(words))


def _chat_words() -> list[str]:
    return ["show", "clear", *conversations.names()]


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "status": Command(status_text, "what runs"),
        "models": Command(lambda: models_text(say), "which models there are"),
        "load": Command(
            _load, "load another: demo, smollm2, or the path of a .gguf file", "REF", 1, 1, completion.loadable
        ),
        "get": Command(
            lambda name: get_model(name, say),
            "fetch one that is not here yet: smollm2",
            "NAME",
            1,
            1,
            lambda: ["smollm2"],
        ),
        "stop": Command(_stop, "end the worker (it starts again when you ask)"),
        "running": Command(running_text, "which of your requests run"),
        "cancel": Command(
            cancel_text, "end one of them; the beginning of its id is enough", "ID|all", 1, 1, completion.request_ids
        ),
        "chats": Command(chats_text, "the conversations of --chat", "[show|clear NAME]", 0, 2, _chat_words),
        "error": Command(None, "ask what is wrong with the last cell that failed", "[QUESTION]", 0, 1000),
        "tokens": Command(tokens_shown, "the tokens of a text", "TEXT", 1, 100_000),
        "trace": Command(trace_shown, "what happened in the last request, or in that with this id", "[ID]", 0, 1),
        "format": Command(format_text, "how a model writes calls and thinking", "[MODEL]", 0, 1, completion.model_ids),
        "record": Command(
            _record, "keep what is asked and answered in FILE, until off", "FILE|off", 0, 1, lambda: ["off"]
        ),
        "replay": Command(
            _replay, "answer from such a file, with no model, until off", "FILE|off [speed=X]", 0, 2, lambda: ["off"]
        ),
        "connect": Command(connect_text, "the lines for curl, the SDKs and Claude Code, tried"),
        "claude": Command(
            _claude,
            "the variables for Claude Code: sh, powershell or settings",
            "[FORM]",
            0,
            1,
            lambda: claude_code.FORMS,
        ),
        "help": Command(lambda: help_text(), "this"),
    }
)
