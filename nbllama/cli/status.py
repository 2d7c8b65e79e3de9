"""`nbllama status`: the workers of this user on this host."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nbllama.cli.amounts import count, duration, size

_NO_PLURAL = ("jupyter", "serve")


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
    if not args.json:
        _warn_of_others()
    return 0


def _warn_of_others() -> None:
    from nbllama.worker import connection

    for other in connection.other_workers():
        print(f"warning: {other}")


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
        lines.append(f"  {_model(model)}")
        lines += [f"    {warning}" for warning in model.get("warnings", [])]
        if model.get("hint"):
            lines.append(f"    {model['hint']}")
        if model.get("build"):
            lines.append(f"    built with: {model['build']}")
    lines += [f"  request: {request_line(request)}" for request in worker.get("requests", [])]
    if attached := worker.get("attached_as"):
        lines.append(f"  attached: {attached_line(attached)}")
    return [*lines, f"  log: {worker.get('log')}"]


def attached_line(attached: dict[str, int]) -> str:
    """{"kernel": 2, "jupyter": 1} → `1 jupyter, 2 kernels`."""
    return ", ".join(
        f"{n} {kind}" if n == 1 or kind in _NO_PLURAL else f"{n} {kind}s" for kind, n in sorted(attached.items())
    )


def request_line(request: dict[str, Any]) -> str:
    """What a request waits for, or that it runs."""
    match request.get("state"):
        case "queued":
            state = f"place {request.get('position')} in the queue"
        case "prefill":
            state = f"reading the prompt: {request.get('prefill', 0):.0%}"
        case "loading":
            state = f"loading the model: {request.get('load', 0):.0%}"
        case other:
            state = str(other)
    return f"{request.get('model')}, {state}"


def _model(model: dict[str, Any]) -> str:
    state = str(model.get("state"))
    words = [str(model.get("id")), f"{state} {model.get('load', 0):.0%}" if state == "loading" else state]
    if model.get("size_bytes"):
        words.append(size(model["size_bytes"]))
    if adapter := model.get("adapter"):
        about = f"{size(adapter['size_bytes'] or 0)}, for the base {adapter['base_sha256'][:8]}…"
        words.append(f"adapter {adapter['name']} ({about})")
    if model.get("n_ctx"):
        words.append(f"context {model['n_ctx']:,} tokens")
    if model.get("device"):
        words.append(str(model["device"]))
    if model.get("default"):
        words.append("default")
    if model.get("error"):
        words.append(str(model["error"]))
    return ", ".join(words)
