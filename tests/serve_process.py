"""`nbllama serve` as a user runs it: another process, found by the one line that it prints."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKEN = "token-of-this-test"


@dataclass(frozen=True)
class Door:
    """A running door. `url` ends without a slash."""

    url: str
    model: str

    def message(self, **body: Any) -> dict[str, Any]:
        """POST /v1/messages, not streamed."""
        return self.request("/v1/messages", {"model": self.model, "max_tokens": 200, **body})

    def request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with self.open(path, body) as answer:
            value: dict[str, Any] = json.load(answer)
        return value

    def open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer as it comes."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-api-key": TOKEN}
        return urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=120)


@contextlib.contextmanager
def serving(model: str, *arguments: str, python: str = sys.executable) -> Iterator[Door]:
    """A door to a worker of its own, on a free port, run by `python`; both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        env = {**os.environ, "NBLLAMA_RUNTIME_DIR": f"{folder}/run"}
        command = [python, "-m", "nbllama", "serve", "--model", model, "--port", "0", "--token", TOKEN]
        with subprocess.Popen([*command, *arguments], env=env, stdout=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                if not line.startswith("nbllama: serving "):
                    raise RuntimeError(f"nbllama serve did not start: {_log(folder)}")
                _, _, name, _, url = line.split()
                yield Door(url, name)
            finally:
                process.terminate()
                process.wait(60)
                subprocess.run([python, "-m", "nbllama", "stop"], env=env, capture_output=True, check=False)


def _log(folder: str) -> str:
    return "\n".join(path.read_text(errors="replace") for path in Path(folder, "run").glob("*.log"))
