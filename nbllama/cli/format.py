"""`nbllama format`: how a model writes calls and thinking, and whether its template's renderings are read back."""

from __future__ import annotations

import argparse
import json

from nbllama.cli.chat_templates import UsageError, add_tokens, of_file, of_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a chat template")
    parser.add_argument("--model", metavar="REF", help="a model: demo, smollm2, or a .gguf file")
    add_tokens(parser)
    parser.add_argument("--json", action="store_true", help="one object: family, source, format, checks, warnings")


def run(args: argparse.Namespace) -> int:
    from nbllama.chat.format import to_data

    if bool(args.file) == bool(args.model):
        raise UsageError("give a template's FILE or --model REF")
    template = of_model(args.model, args.format) if args.model else of_file(args.file, args.bos, args.eos, args.format)
    derived, data = template.derived, to_data(template.format)
    if args.json:
        checks = {check.name: check.passed for check in derived.checks}
        described = {"family": template.format.family, "source": derived.source, "format": data}
        print(json.dumps(described | {"checks": checks, "warnings": template.warnings}, ensure_ascii=False, indent=2))
        return 0
    print(f"family: {template.format.family} ({derived.source})")
    print(json.dumps(data, ensure_ascii=False, indent=2))
    for check in derived.checks:
        print(f"{_VERDICTS[check.passed]:<16} {check.name}")
    for warning in template.warnings:
        print(f"warning: {warning}")
    return 0


_VERDICTS = {True: "read back", False: "NOT READ BACK", None: "not rendered"}
