"""`%%llama` asks; `%llama` does everything else."""

from __future__ import annotations

import re
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Bool, Float, Integer, Unicode

from nbllama.notebook.link import LINK
from nbllama.worker import connection

HELP = """\
%%llama [options]     ask: the cell is the question; %%llama? shows the options
%llama status         what runs
%llama models         the models the worker can serve
%llama load REF       load a model: demo, smollm2, a path to a .gguf, scripted:FILE   [--ctx TOKENS]
%llama stop           end the worker when it has finished what it is answering"""

_VARIABLE = re.compile(r"\{\{\s*([^\W\d]\w*)\s*\}\}")


@magics_class
class NbllamaMagics(Magics):  # type: ignore[misc]  # IPython is not typed
    """Settings: `%config NbllamaMagics.max_tokens = 200`."""

    model = Unicode("", help="The model's id; empty: the worker's default.").tag(config=True)
    max_tokens = Integer(1024, help="The longest answer, in tokens.").tag(config=True)
    temperature = Float(None, allow_none=True, help="0 to 1; None: what suits the model.").tag(config=True)
    system = Unicode("", help="The system prompt of every cell.").tag(config=True)
    thinking = Bool(False, help="Let the model think first.").tag(config=True)

    @magic_arguments()
    @argument("-m", "--model", help="the model's id")
    @argument("-n", "--max-tokens", type=int, help="the longest answer, in tokens")
    @argument("-t", "--temperature", type=float, help="0 (always the same) to 1")
    @argument("-s", "--system", help="the system prompt")
    @argument("--thinking", action="store_true", help="let the model think first")
    @argument("-o", "--output", metavar="NAME", help="store the answer, the SDK's Message, under this name")
    @argument("words", nargs="*", help="in %%llama: a command; see %%llama help")
    @line_cell_magic
    def llama(self, line: str, cell: str | None = None) -> None:
        """Ask a local model. `{{name}}` in the cell stands for a variable of the notebook."""
        if cell is None:
            _command(line.split())
            return
        arguments = parse_argstring(self.llama, line)
        if arguments.words:
            raise UsageError(f"%%llama: what is {arguments.words[0]!r}? The question goes into the cell below the line")
        from nbllama.notebook.ask import ask  # brings Markdown: not at %load_ext

        message = ask(self._body(arguments, self._filled(cell.strip())))
        if arguments.output:
            from nbllama.notebook.trace import to_message

            self.shell.user_ns[arguments.output] = to_message(message)

    def _filled(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in self.shell.user_ns:
                raise UsageError(f"%%llama: there is no variable {name!r} for {match.group()}")
            return str(self.shell.user_ns[name])

        filled = _VARIABLE.sub(value, text)
        if not filled:
            raise UsageError("%%llama: the cell is empty; write the question below the line")
        return filled

    def _body(self, arguments: Any, text: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": arguments.model or self.model or _default_model(),
            "max_tokens": arguments.max_tokens or self.max_tokens,
            "messages": [{"role": "user", "content": text}],
        }
        temperature = arguments.temperature if arguments.temperature is not None else self.temperature
        if temperature is not None:
            body["temperature"] = temperature
        if system := arguments.system or self.system:
            # The line keeps the quotes that hold its words together.
            body["system"] = system.strip("\"'")
        if arguments.thinking or self.thinking:
            body["thinking"] = {"type": "adaptive"}
        return body


def register(shell: InteractiveShell) -> None:
    """Registers the magics; again after a reload, without doubling anything."""
    shell.register_magics(NbllamaMagics)


def unregister(shell: InteractiveShell) -> None:
    """Takes the magics out and lets go of the worker."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("llama", None)
    LINK.close()


def _default_model() -> str:
    endpoint = LINK.endpoint()
    if not endpoint.is_worker:
        return "default"
    models = connection.request_json(endpoint, "GET", "/v1/models")["data"]
    return str(models[0]["id"]) if models else "default"


def _command(words: list[str]) -> None:
    commands = {"status": _status, "models": _models, "load": _load, "stop": _stop, "help": _help}
    name = words[0] if words else "help"
    if name not in commands:
        raise UsageError(f"%llama: {name!r} is no command\n{HELP}")
    from nbllama.errors import NbllamaError
    from nbllama.notebook.ask import AskFailed

    try:
        commands[name](words[1:])
    except NbllamaError as error:
        raise AskFailed(str(error)) from None


def _help(_: list[str]) -> None:
    print(HELP)


def _status(_: list[str]) -> None:
    endpoint = connection.find()
    if endpoint is None:
        print("no worker is running; the next %%llama cell starts one")
        return
    status = connection.request_json(endpoint, "GET", "/nbllama/status")
    print(f"worker {status['pid']}: {status['requests_running']} running, {status['requests_total']} requests so far")
    for model in status["models"]:
        context = f", context {model['n_ctx']:,} tokens" if model.get("n_ctx") else ""
        print(f"  {model['id']}: {model['state']}{context}")


def _models(_: list[str]) -> None:
    for model in connection.request_json(LINK.endpoint(), "GET", "/v1/models")["data"]:
        print(f"{model['id']}: {model['display_name']}")


def _load(words: list[str]) -> None:
    if not words:
        raise UsageError("%llama load: which model? demo, smollm2, a path to a .gguf, or scripted:FILE")
    body: dict[str, Any] = {"model": connection.absolute_reference(words[0])}
    if "--ctx" in words:
        value = words[words.index("--ctx") + 1 :]
        if not value or not value[0].isdecimal():
            raise UsageError("%llama load: --ctx wants a number of tokens")
        body["ctx"] = int(value[0])
    loaded = connection.request_json(LINK.endpoint(print), "POST", "/nbllama/load", body, timeout=None)
    print(f"{loaded['id']} is loaded, context {loaded['n_ctx']:,} tokens")


def _stop(_: list[str]) -> None:
    endpoint = connection.find()
    LINK.close()
    if endpoint is None or not connection.stop(endpoint):
        print("no worker is running")
    else:
        print("the worker ends when it has finished what it is answering")
