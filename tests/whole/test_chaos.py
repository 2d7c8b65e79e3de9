"""Starters, requests and SIGKILLs at random: afterwards one worker answers, and nothing of the others is left.

`NBLLAMA_CHAOS_SECONDS` says for how long, `NBLLAMA_CHAOS_SEED` repeats a run's choices (not its timing).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nbllama.worker import connection

CLIENT = Path(__file__).with_name("chaos_client.py")
ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("NBLLAMA_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("NBLLAMA_CHAOS_SEED", random.randrange(10_000)))
MOST_CLIENTS = 4
PATIENCE = 90.0
# What stays when nothing runs: locks, the log, and which interpreter has llama_cpp.
STAYS = {"nbllama-p1.lock", "nbllama-p1.publish.lock", "nbllama-p1.log", "interpreter.json"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@dataclass
class Chaos:
    """The programs and the worker of one run. `folder` is theirs, `folder/run` is the runtime folder."""

    folder: Path
    chance: random.Random
    clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def act(self) -> None:
        match self.chance.choice(["start", "start", "kill worker", "kill client", "nothing"]):
            case "start" if len(self.clients) < MOST_CLIENTS:
                self.start_client()
            case "kill worker":
                self.kill_a_worker()
            case "kill client" if len(self.clients) > 1:
                client = self.clients.pop(self.chance.randrange(len(self.clients)))
                client.kill()
                client.wait()
        time.sleep(self.chance.uniform(0.05, 0.7))

    def start_client(self) -> None:
        command = [sys.executable, str(CLIENT), str(self.folder), str(self.chance.randrange(10_000))]
        self.clients.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}))

    def kill_a_worker(self) -> None:
        """Any that runs, also one that is just starting."""
        pids = self.workers()
        if pids:
            self.killed += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(pids), signal.SIGKILL)

    def end_clients(self) -> None:
        """Each ends by itself: none hangs."""
        (self.folder / "end").touch()
        for client in self.clients:
            assert client.wait(PATIENCE) == 0
        self.clients.clear()

    def outcomes(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("client-*"))

    def processes(self) -> dict[int, str]:
        """Every process that was given our runtime folder, with its command. A zombie has neither."""
        wanted = f"NBLLAMA_RUNTIME_DIR={self.run}".encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def workers(self) -> list[int]:
        return sorted(pid for pid, command in self.processes().items() if "nbllama.worker" in command)


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chaos]:
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    script = {"rules": [{"when": "tell", "answer": "one two three four five six", "delay_s": 0.03}]}
    (folder / "script.json").write_text(json.dumps(script))
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(folder / "run"))
    monkeypatch.setenv("NBLLAMA_MODEL", f"scripted:{folder / 'script.json'}")
    monkeypatch.setenv("NBLLAMA_IDLE_EXIT", "5")
    monkeypatch.delenv("NBLLAMA_BASE_URL", raising=False)
    chaos = Chaos(folder, random.Random(SEED))
    yield chaos
    for client in chaos.clients:
        client.kill()
        client.wait()
    for pid in chaos.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_after_chaos_one_worker_answers_and_nothing_is_left(chaos: Chaos) -> None:
    print(f"NBLLAMA_CHAOS_SEED={SEED}")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        chaos.act()
    chaos.end_clients()

    outcomes = chaos.outcomes()
    print(f"{chaos.killed} workers killed, outcomes {outcomes}")
    assert "!" not in outcomes, outcomes
    assert "." in outcomes
    assert chaos.killed > 0
    endpoint = connection.ensure()
    with connection.attach(endpoint):
        # One that lost a race against another ends by itself.
        wait_until(lambda: list(chaos.processes()) == [endpoint.pid], chaos.processes)
        body = {"model": "any", "max_tokens": 50, "messages": [{"role": "user", "content": "tell"}]}
        answer = connection.request_json(endpoint, "POST", "/v1/messages", body)
        assert answer["content"][0]["text"] == "one two three four five six"
        assert connection.find() == endpoint
    assert connection.stop(endpoint)
    wait_until(lambda: not chaos.processes(), chaos.processes)
    assert {path.name for path in chaos.run.iterdir()} <= STAYS


def wait_until(condition: Callable[[], bool], state: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.05)
