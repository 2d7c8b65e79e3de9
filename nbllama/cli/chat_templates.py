"""The template that a command is about: a file, or the one inside a model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllama.errors import NbllamaError

if TYPE_CHECKING:
    from nbllama.chat.format import Format
    from nbllama.chat.template import ChatTemplate


class UsageError(NbllamaError):
    """A file or line that a command cannot use."""


def add_source(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--template and --model, one of which must be given where there is no --jsonl."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--template", metavar="FILE", help="a chat template")
    source.add_argument("--model", metavar="REF", help="a model: demo, smollm2, or a .gguf file")
    add_tokens(parser)


def add_tokens(parser: argparse.ArgumentParser) -> None:
    """What a template file alone does not say."""
    parser.add_argument("--bos", default="", metavar="TEXT", help="the model's token for the beginning of a text")
    parser.add_argument("--eos", default="", metavar="TEXT", help="the model's token for the end of a text")
    parser.add_argument("--format", metavar="FILE", help="a format to use in place of the derived one (JSON)")


def chosen(args: argparse.Namespace) -> ChatTemplate:
    """The template that the arguments name. Raises NbllamaError."""
    if args.model:
        return of_model(args.model, args.format)
    if not args.template:
        raise UsageError("give --template FILE or --model REF")
    return of_file(args.template, args.bos, args.eos, args.format)


@lru_cache(maxsize=128)
def of_file(path: str, bos: str = "", eos: str = "", format_path: str | None = None) -> ChatTemplate:
    """Understood once for any number of lines."""
    from nbllama.chat.template import ChatTemplate

    return ChatTemplate(read_text(path), bos=bos, eos=eos, control_tokens=(), format=_format(format_path))


def of_model(ref: str, format_path: str | None = None) -> ChatTemplate:
    """Loads the model for what it says of itself, which needs llama.cpp for a .gguf file."""
    from nbllama.answer.loading import load_runtime
    from nbllama.answer.model_sources import resolve
    from nbllama.chat.template import ChatTemplate

    runtime = load_runtime(None)(resolve(ref), 256, lambda _: None)
    try:
        info, control = runtime.info, runtime.vocabulary.control_tokens()
        source = info.chat_template or ""
        return ChatTemplate(source, bos=info.bos, eos=info.eos, control_tokens=control, format=_format(format_path))
    finally:
        runtime.close()


def _format(path: str | None) -> Format | None:
    from nbllama.chat.format import from_data

    return from_data(read_json(path)) if path else None


def read_text(path: str) -> str:
    """A file's text; `-` is standard input. Raises UsageError."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_json(path: str) -> Any:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error


def answer_lines(work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """One JSON object a line from standard input through `work`, one a line out, in the same order."""
    for line in _lines():
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise UsageError("a line should be a JSON object")
            result = work(asked)
        except NbllamaError as error:
            result = {"error": str(error)}
        except ValueError as error:
            result = {"error": f"the line is no JSON: {error}"}
        print(json.dumps(result, ensure_ascii=False), flush=True)
    return 0


def _lines() -> Iterator[str]:
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    return (line for line in sys.stdin if line.strip())


def field(asked: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A field of a line. Raises UsageError that names it."""
    value = asked.get(name, default)
    if not isinstance(value, kind):
        raise UsageError(f"{name}: should be {_KINDS[kind]}")
    return value


_KINDS = {str: "a string", dict: "an object", list: "a list", bool: "true or false"}
