"""`nbllama status`: the workers of this user on this host."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nbllama.cli.amounts import count, duration, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list of objects, one a worker")


def run(args: argparse.Namespace) -> int:
    workers = _workers()
    if args.json:
        print(json.dumps(workers, indent=2))
    elif not workers:
        print("no worker is running")
    else:
        print("\n".join(line for worker in workers for line in _lines(worker)))
    return 0


def _workers() -> list[dict[str, Any]]:
    """There is one a user, host and protocol number, so none or one. It may end while we ask."""
    from nbllama.worker import connection
    from nbllama.worker.errors import WorkerError

    endpoint = connection.find()
    if endpoint is None:
        return []
    try:
        return [connection.request_json(endpoint, "GET", "/nbllama/status")]
    except WorkerError:
        if connection.find() is None:
            return []
        raise


def _lines(worker: dict[str, Any]) -> list[str]:
    running, waiting = worker.get("requests_running", 0), worker.get("requests_waiting", 0)
    requests = f"{count(worker.get('requests_total', 0), 'request')} ({running} running, {waiting} waiting)"
    parts = [f"up {duration(worker.get('uptime_s', 0))}", size(worker.get("rss_bytes", 0)), requests]
    lines = [f"worker {worker.get('pid')} (nbllama {worker.get('version')}): {', '.join(parts)}"]
    for model in worker.get("models", []):
        lines += [f"  {_model(model)}", *(f"    {warning}" for warning in model.get("warnings", []))]
    return [*lines, f"  log: {worker.get('log')}"]


def _model(model: dict[str, Any]) -> str:
    words = [str(model.get("id")), str(model.get("state"))]
    if model.get("size_bytes"):
        words.append(size(model["size_bytes"]))
    if model.get("n_ctx"):
        words.append(f"context {model['n_ctx']:,} tokens")
    if model.get("default"):
        words.append("default")
    if model.get("error"):
        words.append(str(model["error"]))
    return ", ".join(words)
