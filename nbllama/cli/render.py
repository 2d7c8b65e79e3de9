"""`nbllama render`: the exact prompt of a Messages request."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from nbllama.cli.chat_templates import UsageError, add_source, answer_lines, chosen, field, of_file, read_json

if TYPE_CHECKING:
    from nbllama.chat.template import ChatTemplate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser, required=False)
    parser.add_argument(
        "request", nargs="?", default="-", metavar="request.json", help="a Messages request (- = stdin)"
    )
    parser.add_argument(
        "--jsonl", action="store_true", help='one {"template": path, "request": {...}} a line on standard input'
    )


def run(args: argparse.Namespace) -> int:
    if args.jsonl:
        return answer_lines(lambda asked: _line(args, asked))
    sys.stdout.write(_prompt(chosen(args), read_json(args.request)))
    return 0


def _line(args: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    named = "template" in asked or not (args.template or args.model)
    template = of_file(field(asked, "template", str), args.bos, args.eos, args.format) if named else chosen(args)
    return {"prompt": _prompt(template, field(asked, "request", dict))}


def _prompt(template: ChatTemplate, request: Any) -> str:
    from nbllama.wire.requests import parse_messages_request

    if not isinstance(request, dict):
        raise UsageError("a request should be a JSON object")
    # What says nothing about the prompt may be left out.
    whole = {"model": "none", "max_tokens": 1_000_000, **request}
    return template.render(parse_messages_request(json.dumps(whole).encode()), images=True).text
