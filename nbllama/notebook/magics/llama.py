"""`%%llama` asks, `%llama` does the rest. Registered by `%load_ext nbllama`, which loads nothing heavy."""

# IPython's decorators of magics are not typed.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

import argparse
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Int, Unicode

from nbllama.notebook.ask import Question
from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics import code_cell, going_along
from nbllama.notebook.magics.asked_cell import AskedCell, Wanted
from nbllama.notebook.magics.commands import COMMANDS, command_of, run_command
from nbllama.notebook.magics.completion import Completer
from nbllama.notebook.magics.interpolation import interpolate
from nbllama.notebook.magics.jupyter_server import server_help
from nbllama.notebook.magics.last_error import last_error
from nbllama.notebook.near import near

_USAGE = "→ %%llama [-m MODEL] [-n N] [-t T] [-s SYSTEM] [--thinking] [-o NAME], the prompt below it; `%llama help`"


@magics_class
class NbllamaMagics(Magics):
    """The defaults of `%%llama`: `%config NbllamaMagics.max_tokens = 200`."""

    model = Unicode("", help="The model that %%llama asks; empty: the server's default.").tag(config=True)
    max_tokens = Int(1024, min=1, help="How many tokens an answer may have.").tag(config=True)
    budget = Int(400, min=1, help="How many tokens the description of a DataFrame (-i) may have.").tag(config=True)

    @no_var_expand
    @magic_arguments()
    @argument("-m", "--model", help="a model that is loaded")
    @argument("-n", "--max-tokens", type=int, metavar="N", help="how many tokens the answer may have (default: 1024)")
    @argument("-t", "--temperature", type=float, metavar="T", help="0 (always the likeliest token) to 1")
    @argument("--greedy", action="store_true", help="always the likeliest token, as -t 0")
    @argument("--seed", type=int, metavar="N", help="draw the same answer each time")
    @argument("-s", "--system", metavar="TEXT", help="a system prompt")
    @argument("--thinking", action="store_true", help="let the model think first")
    @argument("-o", "--output", metavar="NAME", help="keep the answer, the SDK's Message, as the variable NAME")
    @argument("--raw", action="store_true", help="show what the model wrote, with its marks, not as Markdown")
    @argument("--chat", metavar="NAME", help="go on with the conversation of this name, or begin it")
    @argument("--drop", action="store_true", help="with --chat: leave out the oldest turns if the context is full")
    @argument("--code", action="store_true", help="put the code of the answer into a new cell, which is not run")
    @argument("-i", "--include", metavar="NAME", action="append", help="send along what the DataFrame NAME looks like")
    @argument("--budget", type=int, metavar="N", help="with -i: in so many tokens at most (default: 400)")
    @argument("--tools", metavar="F,G", help="functions of yours that the model may call")
    @argument("--confirm", action="store_true", help="with --tools: ask before each call")
    @argument("--steps", type=int, metavar="N", help="with --tools: how many answers the model may give (default: 8)")
    @argument("command", nargs="*", help="as %%llama: status, models, load REF, … (see %%llama help)")
    @line_cell_magic
    def llama(self, line: str, cell: str | None = None) -> None:
        """Ask the local model: `%%llama` with the prompt below it. `%llama help` shows everything."""
        arguments = self._parse(line, in_cell=cell is not None)
        words = [_unquoted(word) for word in arguments.command]
        if cell is not None:
            if words:
                raise UsageError(f"%%llama: the prompt belongs below this line, not on it ({' '.join(words)})")
            self._ask(arguments, interpolate(cell, self._variables).strip())
        elif words[:1] == ["error"]:
            self._ask_about_error(arguments, " ".join(words[1:]))
        else:
            self._run(arguments, words or ["status"])

    @property
    def _running_shell(self) -> InteractiveShell:
        if self.shell is None:
            raise UsageError("%%llama: needs IPython; in a script use nbllama.client()")
        return self.shell

    @property
    def _variables(self) -> dict[str, Any]:
        variables: dict[str, Any] = self._running_shell.user_ns
        return variables

    def _parse(self, line: str, *, in_cell: bool) -> argparse.Namespace:
        try:
            arguments: argparse.Namespace = parse_argstring(self.llama, line)
        except ValueError as error:
            raise UsageError(f"%%llama: {error} in {line.strip()}\n{_USAGE}") from None
        except UsageError as error:
            raise UsageError(f"%%llama: {error}\n{_meant(self.llama.parser, str(error)) or _USAGE}") from None
        if in_cell:
            _check(arguments)
        return arguments

    def _run(self, arguments: argparse.Namespace, words: list[str]) -> None:
        words = [interpolate(word, self._variables) for word in words]
        command_of(words)
        options = [name for name, value in vars(arguments).items() if name != "command" and value]
        if options:
            raise UsageError(f"%llama {words[0]}: takes no options (--{options[0].replace('_', '-')}): leave it out")
        run_command(words)

    def _ask_about_error(self, arguments: argparse.Namespace, question: str) -> None:
        _check(arguments)
        prompt = last_error.prompt(question)
        going_along.show("asked about the last error:", prompt)
        self._ask(arguments, prompt)

    def _ask(self, arguments: argparse.Namespace, prompt: str) -> None:
        if not prompt:
            raise UsageError("%%llama: there is no prompt in the cell")
        if arguments.tools is not None:
            return self._ask_with_tools(arguments, prompt)
        AskedCell(self._running_shell, self._question(arguments, prompt), self._wanted(arguments)).run()

    def _ask_with_tools(self, arguments: argparse.Namespace, prompt: str) -> None:
        from nbllama.notebook.tools.cell import run_cell

        question = self._question(arguments, prompt)
        question.model = question.model or self.model
        options = {"confirm": arguments.confirm, "max_steps": arguments.steps, "output": arguments.output}
        run_cell(self._running_shell, question, _unquoted(arguments.tools), **options)

    def _question(self, arguments: argparse.Namespace, prompt: str) -> Question:
        system = arguments.system
        return Question(
            prompt=f"{prompt}\n\n{code_cell.PROMPT}" if arguments.code else prompt,
            model=_unquoted(arguments.model or ""),
            max_tokens=arguments.max_tokens or self.max_tokens,
            temperature=0 if arguments.greedy else arguments.temperature,
            system=None if system is None else interpolate(_unquoted(system), self._variables),
            thinking=arguments.thinking,
            seed=arguments.seed,
        )

    def _wanted(self, arguments: argparse.Namespace) -> Wanted:
        return Wanted(
            model=self.model,
            output=arguments.output,
            raw=arguments.raw,
            chat=_unquoted(arguments.chat or ""),
            drop=arguments.drop,
            code=arguments.code,
            include=tuple(arguments.include or ()),
            budget=arguments.budget or self.budget,
        )


def load_ipython_extension(shell: InteractiveShell) -> None:
    shell.register_magics(NbllamaMagics)
    shell.events.register("post_run_cell", last_error.post_run_cell)
    _completer(shell).install()
    if (text := server_help()) is not None:
        print(f"nbllama: {text}")


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Also lets go of the worker; a client that is used later attaches to it again."""
    _completer(shell).remove()
    shell.events.unregister("post_run_cell", last_error.post_run_cell)
    manager = shell.magics_manager
    for kind in manager.magics.values():
        kind.pop("llama", None)
    known = manager.registry.pop(NbllamaMagics.__name__, None)
    # IPython forgets nothing by itself: `%config` would show one more after each `%reload_ext`.
    shell.configurables[:] = [one for one in shell.configurables if one is not known]
    link.detach()


def _completer(shell: InteractiveShell) -> Completer:
    parser = NbllamaMagics.llama.parser
    options = [name for action in parser._actions for name in action.option_strings]
    # What asks the model takes what `%%llama` takes.
    commands = {name: one.after if one.does else lambda: options for name, one in COMMANDS.items()}
    return Completer(shell, parser, commands)


def _check(arguments: argparse.Namespace) -> None:
    """Raises UsageError for options that do not go together, and for names that are none."""
    if arguments.output is not None and not arguments.output.isidentifier():
        raise UsageError(f"-o {arguments.output}: not a name for a variable; letters, digits and _ make one")
    if arguments.greedy and arguments.temperature is not None:
        raise UsageError("--greedy: is -t 0; give one of them")
    if arguments.drop and arguments.chat is None:
        raise UsageError("--drop: leaves out turns of a chat; give its name with --chat NAME")
    if arguments.budget is not None and not arguments.include:
        raise UsageError("--budget: is for DataFrames; name one with -i NAME")
    if arguments.tools is None and (arguments.confirm or arguments.steps is not None):
        raise UsageError("--confirm and --steps: are for tools; name your functions with --tools F,G")
    for name in ("chat", "code", "include", "raw"):
        if arguments.tools is not None and getattr(arguments, name):
            raise UsageError(f"--tools: does not go together with --{name}; leave one of them out")
    for name in ("max_tokens", "budget"):
        if (number := getattr(arguments, name)) is not None and number < 1:
            raise UsageError(f"--{name.replace('_', '-')} {number}: at least 1")
    if arguments.chat is not None and not _unquoted(arguments.chat).strip():
        raise UsageError("--chat: needs a name")


def _meant(parser: argparse.ArgumentParser, message: str) -> str:
    """What somebody may have meant by an option that is none."""
    _, unknown, rest = message.partition("unrecognized arguments: ")
    wrong = rest.split()[0].partition("=")[0] if unknown and rest else ""
    fix = near(wrong, [name for action in parser._actions for name in action.option_strings])
    return f"→ {fix}" if fix else ""


def _unquoted(text: str) -> str:
    """IPython leaves the quotes around `-s "two words"`."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text
