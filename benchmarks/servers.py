"""The servers that benchmarks ask, each in a process of its own on a free port, gone at the end."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import IO

TOKEN = "benchmark"
HEADERS = {"x-api-key": TOKEN, "content-type": "application/json"}


@contextlib.contextmanager
def nbllama(model: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """The port of `nbllama serve`, whose worker is its own; `env` are variables besides this process's."""
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        variables = {**os.environ, "NBLLAMA_RUNTIME_DIR": f"{folder}/run", **(env or {})}
        command = [sys.executable, "-m", "nbllama", "serve", "--model", model, "--port", "0", "--token", TOKEN]
        with subprocess.Popen(
            [*command, *arguments], env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as door:
            line = door.stdout.readline() if door.stdout else ""
            try:
                yield int(line.rstrip().rsplit(":", 1)[1])
            finally:
                door.terminate()
                door.wait(60)


@contextlib.contextmanager
def llama_server(binary: str, model: str, *arguments: str, log: IO[str] | int = subprocess.DEVNULL) -> Iterator[int]:
    """The port of llama.cpp's own server, with the model loaded; what it says goes to `log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [binary, "-m", model, "--port", str(port), "--jinja", "--api-key", TOKEN, *arguments]
    with subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait_for_health(port)
            yield port
        finally:
            server.terminate()
            server.wait(60)


def _wait_for_health(port: int) -> None:
    for _ in range(1200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    sys.exit("llama-server did not start")
