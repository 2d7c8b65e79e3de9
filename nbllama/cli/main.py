"""The command `nbllama`: which commands there are. Each is a module of its own, imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from nbllama._version import __version__
from nbllama.errors import NbllamaError

COMMANDS = {
    "serve": "open a TCP door to the model, without Jupyter",
    "claude": "Claude Code on the local model",
    "key": "the key that opens the API and nothing else",
    "status": "what runs",
    "stop": "end the worker; what it is answering is finished first",
    "logs": "what the worker wrote",
    "models": "which models there are, and get one",
    "render": "the exact prompt that a template makes of a request",
    "parse": "what a model wrote, as message and events",
    "format": "how a model writes calls and thinking, and whether it is read back",
    "clean": "remove what nbllama left on this machine: fetched models, built wheels, logs, sockets",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 1, with one line on standard error, for an error of ours."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    args, rest = parser.parse_known_args(arguments)
    command = importlib.import_module(f"nbllama.cli.{args.command}")
    args.passed_on = rest
    if rest and not getattr(command, "PASSES_ON", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return int(command.run(args))
    except NbllamaError as error:
        print(f"nbllama: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `nbllama logs | head`: nobody reads on, which is no error. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbllama", description="A local model that speaks the Anthropic Messages API."
    )
    parser.add_argument("--version", action="version", version=f"nbllama {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        described = f"{text[0].upper()}{text[1:]}."
        # No abbreviations: what is not ours, as `-p` or `--mod`, is Claude Code's.
        command = commands.add_parser(name, help=text, description=described, allow_abbrev=name != "claude")
        # The others' modules stay unread: `nbllama status` does not import a web server.
        if name in arguments:
            importlib.import_module(f"nbllama.cli.{name}").add_arguments(command)
    return parser
