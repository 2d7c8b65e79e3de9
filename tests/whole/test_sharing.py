"""Two kernels, a Jupyter server, a terminal and another environment: one worker, one copy of the model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from nbllama.worker import connection
from tests.server.test_jupyter_server import TOKEN, Server, environment, jupyter, message

ROOT = Path(__file__).resolve().parents[2]
# Jupyter's own pages know the key by this header only.
LOGIN = {"Authorization": f"token {TOKEN}"}
WORKER_PID = "from nbllama.worker import connection; print(connection.ensure().pid)"
ASK = "%%llama\nTell me of the sea and of the ships that sail on it, slowly and with patience"


class Kernel:
    """A real kernel with the magics loaded."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client
        self.run("%load_ext nbllama")

    def run(self, code: str) -> str:
        """What the code printed. Fails if it raised."""
        texts: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            texts.append(message["content"].get("text", ""))

        reply = self.client.execute_interactive(code, timeout=60, output_hook=collect)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(texts).strip()

    def restart(self) -> None:
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=60)
        self.run("%load_ext nbllama")

    def ask(self) -> dict[str, Any]:
        """Asks, and returns the record of the request."""
        self.run(ASK)
        record: dict[str, Any] = json.loads(self.run("import json, nbllama; print(json.dumps(nbllama.last.record))"))
        return record


@contextlib.contextmanager
def kernel(env: dict[str, str]) -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT), env=env)
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with jupyter() as running:
        yield running


@pytest.fixture(scope="module")
def kernels(server: Server) -> Iterator[tuple[Kernel, Kernel]]:
    env = environment(server.folder) | {"IPYTHONDIR": str(server.folder / "ipython")}
    with kernel(env) as first, kernel(env) as second:
        yield first, second


@pytest.fixture
def other_python(server: Server) -> Iterator[str]:
    """The interpreter of another virtual environment, which has nbllama and its libraries by a .pth file."""
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        path = Path(folder, "lib", version, "site-packages", "others.pth")
        path.write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        yield str(Path(folder, "bin", "python"))


def terminal(python: str, server: Server, *arguments: str) -> str:
    env = environment(server.folder)
    del env["PYTHONPATH"]
    run = subprocess.run([python, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_one_worker_for_kernels_server_terminal_and_another_environment(
    server: Server, kernels: tuple[Kernel, Kernel], other_python: str
) -> None:
    records = [each.ask() for each in kernels]
    assert server.ask("POST", "v1/messages", message("hi")).status == 200
    (in_terminal,) = json.loads(terminal(sys.executable, server, "-m", "nbllama", "status", "--json"))

    pids = {int(each.run(WORKER_PID)) for each in kernels}
    pids |= {server.status()["pid"], in_terminal["pid"], int(terminal(other_python, server, "-c", WORKER_PID))}
    assert len(pids) == 1
    assert [record["ending"] for record in records] == ["done", "done"]
    assert in_terminal["attached_as"] == {"kernel": 2, "jupyter": 1}
    assert len(in_terminal["models"]) == 1
    assert "attached    jupyter 1, kernel 2" in kernels[0].run("%llama status")
    assert "attached: 1 jupyter, 2 kernels" in terminal(other_python, server, "-m", "nbllama", "status")


def test_no_kernel_has_the_engine_in_it(kernels: tuple[Kernel, Kernel]) -> None:
    heavy = (
        "import sys; print([name for name in ('llama_cpp', 'nbllama.engine', 'tornado.web') if name in sys.modules])"
    )
    for each in kernels:
        assert each.run("nbllama = __import__('nbllama'); " + heavy) == "[]"


def test_a_restarted_kernel_finds_its_prefix_again(server: Server, kernels: tuple[Kernel, Kernel]) -> None:
    kernels[0].ask()
    before = server.status()

    kernels[0].restart()
    record = kernels[0].ask()

    assert server.status()["pid"] == before["pid"]
    assert record["cached_tokens"] > 10


def test_work_of_kernels_counts_as_the_servers_activity(server: Server, kernels: tuple[Kernel, Kernel]) -> None:
    def last_activity() -> str:
        return str(server.ask("GET", "api/status", headers=LOGIN).json["last_activity"])

    server.status()
    before = last_activity()
    kernels[1].ask()
    server.status()
    assert last_activity() > before


def test_metrics_are_those_of_the_worker(server: Server, kernels: tuple[Kernel, Kernel]) -> None:
    kernels[1].ask()
    status = server.status()

    lines = metrics(server)
    assert lines["nbllama_worker_up"] == 1
    assert lines["nbllama_requests_total"] == status["requests_total"] > 0
    assert lines["nbllama_models_loaded"] == 1
    assert lines["nbllama_worker_resident_memory_bytes"] > 1e7
    assert lines['nbllama_attached{kind="kernel"}'] == 2


def test_a_scrape_starts_no_worker() -> None:
    with jupyter() as server:
        assert metrics(server)["nbllama_worker_up"] == 0
        assert not server.connection_file.exists()


def metrics(server: Server) -> dict[str, float]:
    text = server.ask("GET", "metrics", headers=LOGIN).data.decode()
    samples = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("nbllama_")]
    return {name: float(value) for name, value in samples}


def test_waiting_is_said_in_pings_and_in_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = {"max_sequences": 1, "n_batch": 32, "prefill_s": 0.005, "default": "Yes."}
    (tmp_path / "slow.json").write_text(json.dumps(script))
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", folder)
        endpoint = connection.ensure(model=f"scripted:{tmp_path / 'slow.json'}")
        try:
            with connection.attach(endpoint):
                check_waiting(endpoint)
        finally:
            connection.stop(endpoint)
            assert connection.wait_until_gone(endpoint)


def check_waiting(endpoint: connection.Endpoint) -> None:
    connection.request_json(endpoint, "POST", "/nbllama/load", {"model": default_model(endpoint)})
    body = {"model": "any", "max_tokens": 10, "messages": [{"role": "user", "content": "word " * 400}]}
    first = connection.stream_events(endpoint, body)
    assert next(first).name == "message_start"
    second = connection.stream_events(endpoint, body)
    assert next(second).name == "message_start"

    pings = [event.json()["nbllama"] for event in first if event.name == "ping"]
    fractions = [ping["prefill"] for ping in pings if ping["state"] == "prefill"]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 1
    pings = [event.json()["nbllama"] for event in second if event.name == "ping"]
    assert {"state": "queued", "position": 1} in pings


def default_model(endpoint: connection.Endpoint) -> str:
    return str(connection.request_json(endpoint, "GET", "/v1/models")["data"][0]["id"])


def test_status_says_the_place_and_the_prefill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = {"max_sequences": 1, "n_batch": 16, "prefill_s": 0.01, "default": "Yes."}
    (tmp_path / "slow.json").write_text(json.dumps(script))
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", folder)
        endpoint = connection.ensure(model=f"scripted:{tmp_path / 'slow.json'}")
        body = {"model": "any", "max_tokens": 10, "messages": [{"role": "user", "content": "word " * 500}]}
        try:
            streams = [connection.stream_events(endpoint, body) for _ in range(2)]
            for stream in streams:
                next(stream)
            wait_for_states(endpoint, {"prefill", "queued"})
            for stream in streams:
                stream.close()  # type: ignore[attr-defined]  # a generator
        finally:
            connection.stop(endpoint)
            assert connection.wait_until_gone(endpoint)


def wait_for_states(endpoint: connection.Endpoint, states: set[str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        requests = connection.request_json(endpoint, "GET", "/nbllama/status")["requests"]
        if {request["state"] for request in requests} == states:
            return
        assert time.monotonic() < deadline, requests
        time.sleep(0.02)


def test_stop_says_what_it_ends_and_lets_it_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "one two three four five six seven eight"
    (tmp_path / "slow.json").write_text(json.dumps({"rules": [{"answer": words, "delay_s": 0.2}]}))
    body = {"model": "any", "max_tokens": 50, "messages": [{"role": "user", "content": "count"}]}
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder:
        monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", folder)
        endpoint = connection.ensure(model=f"scripted:{tmp_path / 'slow.json'}")
        with connection.attach(endpoint, "kernel"):
            stream = connection.stream_events(endpoint, body)
            seen = [next(stream)]
            command = [sys.executable, "-m", "nbllama", "stop"]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as stopping:
                seen += stream
                output, _ = stopping.communicate(timeout=60)
        ending, ended = output.splitlines()
        assert "after 1 request that it is answering; attached: 1 kernel" in ending
        assert (stopping.returncode, ended) == (0, "ended")
        assert seen[-1].name == "message_stop"
        assert connection.find() is None
