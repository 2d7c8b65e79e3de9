"""`%%llama` asks, `%llama` does the rest. Registered by `%load_ext nbllama`, which loads nothing heavy."""

# IPython's decorators of magics are not typed.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Int, Unicode

from nbllama.errors import NbllamaError
from nbllama.notebook import claude_code
from nbllama.notebook.answer_view import waiting_text
from nbllama.notebook.ask import Asking, Question, adapter_of, size_of
from nbllama.notebook.connect import claude_text, connect_text
from nbllama.notebook.display import NotebookScreen, Screen, TerminalScreen
from nbllama.notebook.errors import AskError
from nbllama.notebook.getting import get_model
from nbllama.notebook.jupyter_server import server_help
from nbllama.notebook.kernel_link import link
from nbllama.notebook.trace import as_message
from nbllama.views.visible import visible
from nbllama.worker import connection
from nbllama.worker.errors import WorkerError

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")

_USAGE = "→ %%llama [-m MODEL] [-n N] [-t T] [-s SYSTEM] [--thinking] [-o NAME], the prompt below it; `%llama help`"

HELP = """\
%%llama            ask: the cell below it is the prompt, {{name}} in it is the value of your variable `name`
    -m MODEL       another model that is loaded        -n N       at most N tokens
    -s SYSTEM      a system prompt                     -t T       temperature, 0 to 1
    --thinking     let it think first                  -o NAME    keep the Message as NAME
    --tools f,g    it may call your functions          --confirm  ask before each call
    --steps N      at most N answers (8)                -o NAME    with --tools: keep the whole run
%llama status      what runs
%llama models      which models there are
%llama load REF    load another: demo, smollm2, or the path of a .gguf file
%llama get NAME    fetch one that is not here yet: smollm2
%llama stop        end the worker (it starts again when you ask)
%llama connect     the lines for curl, the SDKs and Claude Code, tried
%llama claude FORM the variables for Claude Code: sh, powershell or settings
nbllama.last       what happened in the last request"""


@magics_class
class NbllamaMagics(Magics):
    """The defaults of `%%llama`: `%config NbllamaMagics.max_tokens = 200`."""

    model = Unicode("", help="The model that %%llama asks; empty: the server's default.").tag(config=True)
    max_tokens = Int(1024, min=1, help="How many tokens an answer may have.").tag(config=True)

    @no_var_expand
    @magic_arguments()
    @argument("-m", "--model", help="a model that is loaded")
    @argument("-n", "--max-tokens", type=int, help="how many tokens the answer may have (default: 1024)")
    @argument("-t", "--temperature", type=float, help="0 (always the likeliest token) to 1")
    @argument("-s", "--system", help="a system prompt")
    @argument("--thinking", action="store_true", help="let the model think first")
    @argument("-o", "--output", metavar="NAME", help="keep the answer, the SDK's Message, as the variable NAME")
    @argument("--tools", metavar="F,G", help="functions of yours that the model may call")
    @argument("--confirm", action="store_true", help="with --tools: ask before each call")
    @argument("--steps", type=int, help="with --tools: how many answers the model may give (default: 8)")
    @argument("command", nargs="*", help="as %%llama: status, models, load REF, get NAME, stop, help")
    @line_cell_magic
    def llama(self, line: str, cell: str | None = None) -> None:
        """Ask the local model: `%%llama` with the prompt below it. `%llama help` shows everything."""
        arguments = self._parse(line)
        if cell is None:
            run_command([_unquoted(word) for word in arguments.command] or ["status"])
        elif arguments.command:
            raise UsageError(f"%%llama: the prompt belongs below this line, not on it ({' '.join(arguments.command)})")
        else:
            self._ask(arguments, cell)

    def _parse(self, line: str) -> argparse.Namespace:
        try:
            arguments: argparse.Namespace = parse_argstring(self.llama, line)
        except UsageError as error:
            raise UsageError(f"%%llama: {error}\n{_USAGE}") from None
        return arguments

    def _ask(self, arguments: argparse.Namespace, cell: str) -> None:
        output = arguments.output
        if output is not None and not output.isidentifier():
            raise UsageError(f"-o {output}: not a name for a variable")
        shell = self.shell
        if shell is None:
            raise UsageError("%%llama: needs IPython")
        if arguments.tools is not None:
            from nbllama.notebook.tools.cell import run_cell

            options = {"confirm": arguments.confirm, "max_steps": arguments.steps, "output": output}
            return run_cell(shell, self._question(arguments, cell, shell.user_ns), arguments.tools, **options)
        asking = Asking(self._question(arguments, cell, shell.user_ns), _screen(shell))
        with asking.interrupts:
            try:
                asking.run()
            finally:
                asking.interrupts.held = True
                message = asking.view.message()
                if output is not None and message is not None:
                    shell.push({output: as_message(message)})

    def _question(self, arguments: argparse.Namespace, cell: str, variables: dict[str, Any]) -> Question:
        prompt = interpolate(cell, variables).strip()
        if not prompt:
            raise UsageError("%%llama: there is no prompt in the cell")
        system = arguments.system
        return Question(
            prompt=prompt,
            model=_unquoted(arguments.model or self.model),
            max_tokens=arguments.max_tokens or self.max_tokens,
            temperature=arguments.temperature,
            system=None if system is None else interpolate(_unquoted(system), variables),
            thinking=arguments.thinking,
        )


def load_ipython_extension(shell: InteractiveShell) -> None:
    shell.register_magics(NbllamaMagics)
    if (text := server_help()) is not None:
        print(f"nbllama: {text}")


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Also lets go of the worker; a client that is used later attaches to it again."""
    manager = shell.magics_manager
    for kind in manager.magics.values():
        kind.pop("llama", None)
    known = manager.registry.pop(NbllamaMagics.__name__, None)
    # IPython forgets nothing by itself: `%config` would show one more after each `%reload_ext`.
    shell.configurables[:] = [one for one in shell.configurables if one is not known]
    link.detach()


def interpolate(text: str, variables: dict[str, Any]) -> str:
    """Puts the value of a variable where `{{name}}` stands; single braces, as in JSON, stay. Raises UsageError."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise UsageError(f"%%llama: {match[0]} in the prompt, but there is no variable {match[1]}{_near(match[1])}")
        return str(variables[match[1]])

    def _near(name: str) -> str:
        own = [known for known in variables if not known.startswith("_")]
        near = difflib.get_close_matches(name, own, n=3, cutoff=0.6)
        return f"\n→ did you mean {' or '.join(near)}?" if near else "\n→ give it a value in a cell above"

    return _VARIABLE.sub(value, text)


def run_command(words: list[str]) -> None:
    """`%llama …`. Raises AskError, UsageError."""
    name, *rest = words
    command = _COMMANDS.get(name)
    if command is None:
        raise UsageError(
            f"%llama {name}: there is status, models, load REF, get NAME, stop, connect, claude, help "
            "(and %%llama to ask)"
        )
    if name == "claude" and rest in ([], *([form] for form in claude_code.FORMS)):
        rest = rest or ["sh"]
    elif len(rest) != (1 if name in _ONE_WORD else 0):
        raise UsageError(_ONE_WORD.get(name, f"%llama {name}: takes nothing more"))
    try:
        print(visible(command(*rest)))
    except NbllamaError as error:
        raise AskError(error) from error


def _status() -> str:
    lines = [_worker_status()]
    if not os.environ.get("NBLLAMA_BASE_URL"):
        lines += [f"warning     {other}" for other in connection.other_workers()]
    if (text := server_help()) is not None:
        lines.append(f"Jupyter     {text}")
    return "\n".join(lines)


def _worker_status() -> str:
    if not os.environ.get("NBLLAMA_BASE_URL") and connection.find() is None:
        return "no worker is running; one starts when you ask"
    status = connection.request_json(link.endpoint(), "GET", "/nbllama/status")
    memory, minutes = status["rss_bytes"] / 1e6, status["uptime_s"] / 60
    lines = [
        f"worker      pid {status['pid']}, nbllama {status['version']}, {memory:,.0f} MB, up {minutes:.0f} min",
        f"requests    {status['requests_total']} so far, {status['requests_running']} running, "
        f"{status['requests_waiting']} waiting",
    ]
    lines += [f"model       {_model_line(model)}" for model in status["models"]]
    lines += [f"hint        {model['hint']}" for model in status["models"] if model.get("hint")]
    lines += [f"warning     {warning}" for model in status["models"] for warning in model.get("warnings", [])]
    lines += [f"built with  {model['build']}" for model in status["models"] if model.get("build")]
    lines += [f"request     {request.get('model')}: {_progress(request)}" for request in status.get("requests", [])]
    attached = ", ".join(f"{kind} {n}" for kind, n in sorted(status.get("attached_as", {}).items()))
    return "\n".join([*lines, f"attached    {attached}"] if attached else lines)


def _progress(request: dict[str, Any]) -> str:
    return waiting_text(request) if request.get("state") != "running" else "running"


def _models() -> str:
    endpoint = link.endpoint(on_wait=_say)
    if not endpoint.is_worker:
        return "\n".join(model["id"] for model in connection.request_json(endpoint, "GET", "/v1/models")["data"])
    # Refused with the reason if the default is no model; status passes over that.
    connection.request_json(endpoint, "GET", "/v1/models")
    models = connection.request_json(endpoint, "GET", "/nbllama/status")["models"]
    return "\n".join(
        [_model_line(model) for model in models] + [model["hint"] for model in models if model.get("hint")]
    )


def _load(ref: str) -> str:
    body = {"model": connection.absolute_reference(os.path.expanduser(ref))}
    endpoint = link.endpoint(on_wait=_say)
    model = connection.request_json(endpoint, "POST", "/nbllama/load", body, timeout=None)
    return f"loaded {_model_line(model)}"


def _stop() -> str:
    if os.environ.get("NBLLAMA_BASE_URL"):
        raise WorkerError("NBLLAMA_BASE_URL points at another server, which is not ended from here")
    endpoint = connection.find()
    link.detach()
    if endpoint is None:
        return "no worker is running"
    return "stopping the worker" if connection.stop(endpoint) else "the worker does not stop"


def _model_line(model: dict[str, Any]) -> str:
    context = f"context {model['n_ctx']:,} tokens" if model.get("n_ctx") else ""
    default = "default" if model.get("default") else ""
    state = f"loading {model.get('load', 0):.0%}" if model["state"] == "loading" else model["state"]
    parts = [model["id"], state, size_of(model), adapter_of(model), context]
    parts += [model.get("device") or "", default, model.get("error") or ""]
    return ", ".join(part for part in parts if part)


_ONE_WORD = {
    "load": "%llama load REF: demo, smollm2, or the path of a .gguf file",
    "get": "%llama get NAME: smollm2",
}

_COMMANDS: dict[str, Callable[..., str]] = {
    "status": _status,
    "models": _models,
    "load": _load,
    "get": lambda name: get_model(name, _say),
    "stop": _stop,
    "connect": connect_text,
    "claude": claude_text,
    "help": lambda: HELP,
}


def _screen(shell: InteractiveShell) -> Screen:
    terminal = any(base.__name__ == "TerminalInteractiveShell" for base in type(shell).__mro__)
    return TerminalScreen() if terminal else NotebookScreen()


def _say(text: str) -> None:
    print(visible(text))


def _unquoted(text: str) -> str:
    """IPython leaves the quotes around `-s "two words"`."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text
