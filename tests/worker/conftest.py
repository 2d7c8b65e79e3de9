"""A runtime folder of the test's own, a worker in a thread, and an interpreter that starts the fake worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from tornado.netutil import bind_unix_socket

from nbllama.worker import connection, starting
from nbllama.worker.app import WorkerServer, build_app
from nbllama.worker.lifecycle import Lifecycle
from tests.worker.fake_service import FakeService

if TYPE_CHECKING:
    from nbllama.answer.service import Service

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh runtime folder with a short path; every worker that was published there is killed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("NBLLAMA_BASE_URL", raising=False)
    yield folder
    for pid in _pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def startable(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `runtime`, in an environment without llama_cpp where the recorded interpreter starts the fake worker."""
    monkeypatch.setattr(starting, "_has_llama_cpp", lambda: False)
    record_fake_interpreter(runtime)
    return runtime


def record_fake_interpreter(runtime: Path) -> None:
    """Every start leaves a line with its pid in `starts`."""
    python = runtime / "python"
    script = f'#!/bin/sh\necho $$ >> {runtime}/starts\nexec {sys.executable} {FAKE_WORKER} "$@"\n'
    python.write_text(script)
    python.chmod(0o755)
    (runtime / "interpreter.json").write_text(json.dumps({"python": str(python), "python_path": ""}))


def _pids(runtime: Path) -> list[int]:
    starts = runtime / "starts"
    return [int(line) for line in starts.read_text().split()] if starts.exists() else []


class WorkerThread:
    """The real application over the fake service, with its event loop in a thread."""

    def __init__(self, folder: Path, *, idle_exit: float | None = None, secret: str | None = None) -> None:
        self.socket = folder / "w.sock"
        self._idle_exit = idle_exit
        self._secret = secret
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> WorkerThread:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the worker's thread did not start")
        path = str(self.socket)
        self.endpoint = connection.Endpoint("http://localhost", socket=path, key=self._secret, pid=os.getpid())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(lambda: self._end.set() if self._end else None)
        self._thread.join(10)

    def call(self, function: Callable[[], object]) -> None:
        """Runs a function in the event loop and waits for it."""
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self.loop.call_soon_threadsafe(run)
        if not done.wait(10):
            raise RuntimeError("the event loop is blocked")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on the worker's state holds. Fails after ten seconds."""
        for _ in range(1000):
            if condition():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it did not come true")

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.service = FakeService()
        self.lifecycle = Lifecycle(idle_exit=self._idle_exit)
        server = WorkerServer(build_app(cast("Service", self.service), self.lifecycle, secret=self._secret))
        server.add_socket(bind_unix_socket(str(self.socket)))
        self._ready.set()
        await self._end.wait()
        server.stop()
        await self.service.close()
        await server.close_all_connections()


@pytest.fixture
def worker(runtime: Path) -> Iterator[WorkerThread]:
    with WorkerThread(runtime) as thread:
        yield thread
