"""`nbllama key`: the key that opens the API at every door, and nothing else."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rotate", action="store_true", help="make another; doors refuse the old one from then on")
    parser.add_argument("--path", action="store_true", help="only say where it is kept")


def run(args: argparse.Namespace) -> int:
    from nbllama.worker import api_key

    key = api_key.rotate_key() if args.rotate else api_key.ensure_key()
    print(api_key.key_file() if args.path else key)
    if args.rotate:
        print("nbllama: the old key is refused from now on", file=sys.stderr)
    return 0
