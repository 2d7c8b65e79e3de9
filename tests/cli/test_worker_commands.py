"""status, stop and logs against a worker that is only a web server: what they ask, and what they make of the answer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nbllama._version import __version__
from nbllama.cli.main import main
from nbllama.worker import runtime_dir

SECRET = "a secret of this test"
MODEL = {
    "id": "demo",
    "state": "loaded",
    "default": True,
    "size_bytes": 5_176_352,
    "n_ctx": 8192,
    "device": "CPU, 2 threads",
    "build": "CPU : AVX2 = 1",
    "path": "/models/demo.gguf",
    "adapter": {"name": "tools", "size_bytes": 6_532_032, "base_sha256": "c0ffee12" * 8},
    "hint": "a real model is to be had",
    "error": None,
}
LOADING_MODEL = {"id": "big", "state": "loading", "load": 0.42, "default": False, "device": None, "build": None}
OTHER_MODEL = {"id": "broken", "state": "failed", "default": False, "error": "no such tensor"}
REQUESTS = [
    {"model": "demo", "state": "running"},
    {"model": "demo", "state": "prefill", "prefill": 0.25},
    {"model": "demo", "state": "queued", "position": 2},
    {"model": "big", "state": "loading", "load": 0.42},
]


class FakeWorker(ThreadingHTTPServer):
    """Answers the handshake, status and stop as a worker does; `asked` is what came."""

    daemon_threads = True

    def __init__(self, log: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log = log
        self.asked: list[str] = []
        self.alive = True
        self.drains_at_once = True

    def status(self) -> dict[str, Any]:
        handshake = {"protocol": 1, "version": __version__, "pid": os.getpid(), "prefix": "/env"}
        load: dict[str, Any] = {"requests_total": 1234, "requests_running": 2, "requests_waiting": 1, "attached": 3}
        load["attached_as"] = {"kernel": 2, "serve": 1}
        load["requests"] = REQUESTS
        amounts = {"rss_bytes": 310_000_000, "uptime_s": 4000.5, "log": str(self.log)}
        return handshake | load | amounts | {"models": [MODEL, OTHER_MODEL, LOADING_MODEL]}


class Handler(BaseHTTPRequestHandler):
    server: FakeWorker

    def do_GET(self) -> None:
        self.answer(self.server.status() if self.server.alive else None)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.alive = not self.server.drains_at_once
        self.answer({"stopping": True})

    def answer(self, body: dict[str, Any] | None) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.headers["nbllama-secret"] != SECRET or body is None:
            self.send_error(500)
            return
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def worker(folder: Path) -> Iterator[FakeWorker]:
    """A worker that runs, with its connection file."""
    with FakeWorker(folder / "worker.log") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = {"port": server.server_address[1], "secret": SECRET}
        about = {"pid": os.getpid(), "protocol": 1, "version": __version__, "log": str(server.log)}
        runtime_dir.write_json(runtime_dir.connection_file(), about | address)
        yield server
        server.shutdown()
        thread.join()


def test_status_without_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "no worker is running\n"
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_status_for_people(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"worker {os.getpid()} (nbllama {__version__}): up 1 h 6 min, 310 MB, 1,234 requests (2 running, 1 waiting)",
        "  demo, loaded, 5.2 MB, adapter tools (6.5 MB, for the base c0ffee12…), context 8,192 tokens, CPU, 2 threads, "
        "default",
        "    a real model is to be had",
        "    built with: CPU : AVX2 = 1",
        "  broken, failed, no such tensor",
        "  big, loading 42%",
        "  request: demo, running",
        "  request: demo, reading the prompt: 25%",
        "  request: demo, place 2 in the queue",
        "  request: big, loading the model: 42%",
        "  attached: 2 kernels, 1 serve",
        f"  log: {worker.log}",
    ]


def test_status_for_programs(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    for name in ("pid", "models", "rss_bytes", "uptime_s", "requests_total", "requests_running", "log"):
        assert found[name] == worker.status()[name]


def test_stop_says_what_ends_and_waits_for_it(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 0
    ending, ended = capsys.readouterr().out.splitlines()
    assert ending == (
        f"ending the worker (pid {os.getpid()}) with demo; after 3 requests that it is answering; "
        "attached: 2 kernels, 1 serve"
    )
    assert ended == "ended"
    assert "POST /nbllama/stop" in worker.asked


def test_stop_tells_when_it_takes_longer(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    worker.drains_at_once = False
    assert main(["stop", "--timeout", "0"]) == 1
    assert "is still finishing its answers" in capsys.readouterr().err


def test_stop_without_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == "no worker is running\n"


def test_logs_are_the_end_of_the_workers_file(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    worker.log.write_text("".join(f"line {n}\n" for n in range(500)))
    assert main(["logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "line 498\nline 499\n"
    assert main(["logs", "--path"]) == 0
    assert capsys.readouterr().out == f"{worker.log}\n"


def test_logs_of_the_last_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs"]) == 1
    assert "no worker has been started" in capsys.readouterr().err
    runtime_dir.log_file().write_text("it ended\n")
    assert main(["logs"]) == 0
    assert capsys.readouterr().out == "it ended\n"
