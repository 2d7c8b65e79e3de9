"""`nbllama models`: which models there are, and how to get one that is not here yet."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from nbllama.cli.amounts import size

if TYPE_CHECKING:
    from nbllama.answer.model_sources import Adapter, Known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(json=False, action="list")
    actions = parser.add_subparsers(dest="action", metavar="list | get NAME")
    listing = actions.add_parser("list", help="the models that have a name, and what is in your cache (default)")
    listing.add_argument("--json", action="store_true", help="a list of objects")
    getting = actions.add_parser("get", help="fetch one into your cache")
    getting.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace) -> int:
    if args.action == "get":
        return _get(args.name)
    return _list(args.json)


def _list(as_json: bool) -> int:
    from nbllama.answer.model_sources import known

    rows = known()
    if as_json:
        print(json.dumps([_facts(row) for row in rows], indent=2))
        return 0
    for row in rows:
        where = str(row.path) if row.path else f"not here yet; run: nbllama models get {row.id}"
        print(f"{row.id:<12} {size(row.size):>7}  {row.title}\n{'':<21} {where}")
        if row.adapter is not None and row.path is not None:
            print(f"{'':<21} {_adapter_line(row.adapter)}")
    print("\nAny other: the path of a .gguf file.")
    return 0


def _get(name: str) -> int:
    from nbllama.answer.model_sources import get

    progress = ProgressLine()
    try:
        source = get(name, progress)
    finally:
        progress.end()
    print(source.path)
    if source.adapter is not None:
        # Not on standard output, which scripts read the path from.
        print(_adapter_line(source.adapter), file=sys.stderr)
    return 0


def _facts(row: Known) -> dict[str, Any]:
    facts = {"id": row.id, "title": row.title, "size": row.size, "license": row.license}
    adapter = row.adapter.facts() if row.adapter else None
    return facts | {"path": row.path and str(row.path), "adapter": adapter}


def _adapter_line(adapter: Adapter) -> str:
    facts = adapter.facts()
    return f"with the adapter {adapter.name}, {size(facts['size_bytes'] or 0)}, for the base {adapter.base_sha256[:8]}…"


class ProgressLine:
    """Tells on standard error: one changing line on a terminal, else a line every tenth of the way."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._told = -1

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if self._on_terminal:
            print(f"\r\x1b[K{size(done)} of {size(total)}", end="", file=sys.stderr, flush=True)
        elif tenth > self._told:
            print(f"{size(done)} of {size(total)}", file=sys.stderr, flush=True)
        self._told = tenth

    def end(self) -> None:
        if self._on_terminal and self._told >= 0:
            print(file=sys.stderr)
