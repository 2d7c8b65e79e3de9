"""`nbllama stop`: end the worker. It says what ends, and what is being answered is finished first."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nbllama.cli.amounts import count
from nbllama.cli.status import attached_line
from nbllama.errors import NbllamaError


class StopError(NbllamaError):
    """The worker goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds to wait (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from nbllama.worker import connection, crash_loop

    crash_loop.forget()
    endpoint = connection.find()
    if endpoint is None:
        print("no worker is running")
        return 0
    status = connection.request_json(endpoint, "GET", "/nbllama/status")
    print(f"ending {_what(status)}", flush=True)
    if not connection.stop(endpoint):
        raise StopError(f"the worker (pid {endpoint.pid}) does not end")
    if not connection.wait_until_gone(endpoint, timeout=args.timeout):
        print(f"the worker (pid {endpoint.pid}) is still finishing its answers", file=sys.stderr)
        return 1
    print("ended")
    return 0


def _what(status: dict[str, Any]) -> str:
    loaded = [model["id"] for model in status.get("models", []) if model.get("state") == "loaded"]
    parts = [f"the worker (pid {status.get('pid')}) with {', '.join(loaded) or 'no model loaded'}"]
    if running := status.get("requests_running", 0) + status.get("requests_waiting", 0):
        parts.append(f"after {count(running, 'request')} that it is answering")
    if attached := status.get("attached_as"):
        parts.append(f"attached: {attached_line(attached)}")
    return "; ".join(parts)
