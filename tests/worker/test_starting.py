"""Finding, starting, replacing and losing a worker: real processes, with the fake service in them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nbllama._version import __version__
from nbllama.worker import connection, finding, starting
from nbllama.worker.errors import WorkerDied, WorkerError

STARTER = """
from nbllama.worker import connection, starting
starting._has_llama_cpp = lambda: False
print(connection.ensure().pid)
"""


def starts(runtime: Path) -> int:
    return len((runtime / "starts").read_text().split())


def test_five_starters_one_worker(startable: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", STARTER]
    racing = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    pids = [process.communicate(timeout=60)[0].strip() for process in racing]

    assert len(set(pids)) == 1
    assert pids[0].isdecimal()
    assert starts(startable) == 1


def test_a_thread_more_does_not_start_a_second(startable: Path) -> None:
    found: list[connection.Endpoint] = []
    threads = [threading.Thread(target=lambda: found.append(connection.ensure())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(found) == 3
    assert len({endpoint.pid for endpoint in found}) == 1


def test_what_it_was_started_with(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "HTTPS_PROXY", "NBLLAMA_API_KEY", "JUPYTER_TOKEN", "MY_OWN"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PYTHONPATH", "/home/ada/lesson")
    monkeypatch.setenv("NBLLAMA_IDLE_EXIT", "55")
    endpoint = connection.ensure(model="some", ctx=77)
    log = (startable / "nbllama-p1.log").read_text()

    assert f"in {startable}" in log
    for name in ("ANTHROPIC", "PROXY", "KEY", "TOKEN", "MY_OWN", "PYTHONPATH"):
        assert name not in log
    for name in ("GOMP_SPINCOUNT", "NBLLAMA_IDLE_EXIT", "PATH"):
        assert name in log
    assert endpoint.info["models"] == ["some"]
    assert os.getsid(endpoint.pid or 0) == endpoint.pid


def test_without_home_and_xdg(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
        monkeypatch.delenv(name)

    assert connection.ensure().is_worker


def test_a_child_that_dies_shows_its_log(startable: Path) -> None:
    with pytest.raises(WorkerError, match=r"(?s)exit code 1.*the model is broken"):
        connection.ensure(model="crash")

    assert connection.find() is None
    assert connection.ensure().is_worker


def test_a_child_that_never_answers(startable: Path) -> None:
    with pytest.raises(WorkerError, match="did not answer within 1 s"):
        connection.ensure(model="hang", timeout=1)


def test_an_interrupted_start_leaves_no_process(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], *_: object) -> connection.Endpoint:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.ensure(model="hang")

    assert started[0].wait(30) == -signal.SIGTERM


def test_an_environment_without_llama_cpp_says_so(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_has_llama_cpp", lambda: False)

    with pytest.raises(WorkerError, match="has no llama_cpp") as caught:
        connection.ensure()
    assert "\n" not in str(caught.value)


def test_an_interpreter_with_llama_cpp_is_recorded(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_has_llama_cpp", lambda: True)
    starting.record_interpreter()

    assert json.loads((runtime / "interpreter.json").read_text())["python"] == sys.executable


def test_a_checkout_is_found_by_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_site_folders", set)
    checkout = str(Path(__file__).parents[2])

    assert starting.own_python_path({}) == checkout
    assert starting.own_python_path({"PYTHONPATH": "/lesson:site-packages:/opt/m/site-packages"}) == (
        f"/opt/m/site-packages:{checkout}"
    )


def test_a_relative_reference_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert starting.absolute_reference("demo") == "demo"
    assert starting.absolute_reference("owner/repo") == "owner/repo"
    assert starting.absolute_reference("~/a.gguf") == "~/a.gguf"
    assert starting.absolute_reference("../a.gguf") == str(tmp_path.parent / "a.gguf")
    assert starting.absolute_reference("scripted:a.json") == f"scripted:{tmp_path}/a.json"
    assert starting.worker_environment({"NBLLAMA_MODEL": "a.gguf"}, "")["NBLLAMA_MODEL"] == f"{tmp_path}/a.gguf"


def test_a_killed_worker_is_not_found_though_its_file_is_there(startable: Path) -> None:
    first = connection.ensure()
    os.kill(first.pid or 0, signal.SIGKILL)
    second = connection.ensure()

    assert second.pid != first.pid
    assert starts(startable) == 2
    assert sorted(path.name for path in startable.glob("*.sock")) == [f"p1-{second.pid}.sock"]


def test_killed_in_the_middle_of_a_stream(startable: Path) -> None:
    endpoint = connection.ensure()
    attachment = connection.attach(endpoint)
    events = connection.stream_events(endpoint, {"model": "endless"})
    seen = [next(events).name for _ in range(3)]
    os.kill(endpoint.pid or 0, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(events)

    assert seen[-1] == "content_block_delta"
    # The system closes a dead process's sockets one after the other.
    while attachment.alive:
        pass
    attachment.close()
    with pytest.raises(WorkerError):
        connection.request_json(endpoint, "GET", "/nbllama/status")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"protocol": 2, "pid": 1}', '{"protocol": 1, "pid": 1, "socket": "/nope"}']
)
def test_a_stale_connection_file_is_replaced(startable: Path, text: str) -> None:
    connection_file = startable / "nbllama-p1.json"
    connection_file.write_text(text)
    endpoint = connection.ensure()

    assert json.loads(connection_file.read_text())["pid"] == endpoint.pid


def test_someone_else_on_the_socket_is_no_worker(startable: Path) -> None:
    path = startable / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        (startable / "nbllama-p1.json").write_text(json.dumps({"protocol": 1, "pid": 1, "socket": str(path)}))

        assert connection.find() is None


@pytest.mark.parametrize("name", ["nbllama-p1.json", "nbllama-p1.lock", "nbllama-p1.log"])
def test_a_link_in_its_place_is_refused(startable: Path, name: str) -> None:
    (startable / name).symlink_to(startable / "elsewhere")

    with pytest.raises(WorkerError, match="is not what nbllama puts there"):
        connection.ensure()
    assert not (startable / "elsewhere").exists()
    assert not (startable / "starts").exists()


def test_stop_drains_and_leaves_nothing(startable: Path) -> None:
    endpoint = connection.ensure()

    assert connection.stop(endpoint)
    assert connection.find() is None
    assert connection.wait_until_gone(endpoint)
    assert not list(startable.glob("*.sock"))


def test_sigterm_lets_a_running_answer_end_with_words(startable: Path) -> None:
    endpoint = connection.ensure()
    events = connection.stream_events(endpoint, {"model": "gate"})
    next(events)
    os.kill(endpoint.pid or 0, signal.SIGTERM)

    # The fake service drains at once and ends the answer when it is closed.
    assert [event.name for event in events][-1] == "error"
    assert connection.wait_until_gone(endpoint)


def test_it_ends_by_itself_when_the_last_one_left(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_IDLE_EXIT", "0.3")
    endpoint = connection.ensure()
    with connection.attach(endpoint):
        assert not connection.wait_until_gone(endpoint, timeout=0.6)
    assert connection.wait_until_gone(endpoint)
    assert connection.find() is None


def test_another_version_of_this_environment_is_replaced(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = connection.ensure()
    said: list[str] = []
    monkeypatch.setattr(connection, "__version__", "999")
    # Only for the first look: the new one has the old version too.
    monkeypatch.setattr(starting, "start", _start_and_restore(monkeypatch, starting.start))
    new = connection.ensure(on_wait=said.append)

    assert new.pid != old.pid
    assert connection.wait_until_gone(old)
    assert connection.find() == new
    assert any("replacing" in sentence for sentence in said)


def test_another_environment_is_attached_to_whatever_its_version(
    startable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = connection.ensure()
    monkeypatch.setattr(connection, "__version__", "999")
    monkeypatch.setattr(sys, "prefix", "/another")

    assert connection.ensure().pid == running.pid


def test_loopback_tcp_with_a_secret(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_TRANSPORT", "tcp")
    endpoint = connection.ensure()
    stranger = connection.Endpoint(endpoint.base_url, pid=endpoint.pid, info=endpoint.info)

    assert endpoint.socket is None
    assert endpoint.base_url.startswith("http://127.0.0.1:")
    assert [event.name for event in connection.stream_events(endpoint, {"model": "done"})][-1] == "message_stop"
    assert str(endpoint.key) not in repr(endpoint)
    assert finding.handshake(stranger) is None
    with connection.attach(endpoint) as attachment:
        assert attachment.alive


def test_a_second_worker_by_hand_gives_way(startable: Path) -> None:
    first = connection.ensure()
    second = subprocess.run([str(startable / "python"), "-P", "-m", "nbllama.worker"], timeout=30, capture_output=True)

    assert second.returncode == 0
    assert connection.find() == first
    assert [path.name for path in startable.glob("*.sock")] == [f"p1-{first.pid}.sock"]


def test_discover_takes_the_environment_first(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLAMA_BASE_URL", "http://127.0.0.1:9/user/ada/")
    monkeypatch.setenv("NBLLAMA_API_KEY", "k")
    endpoint = connection.discover()

    assert endpoint.headers() == {"x-api-key": "k"}
    assert endpoint.target("/v1/messages") == "/user/ada/v1/messages"
    assert not endpoint.is_worker


@pytest.mark.parametrize("url", ["localhost:8010", "ftp://x", "http://", "http://[x", "http://x:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(WorkerError, match="is not"):
        connection.request_json(connection.Endpoint(url), "GET", "/v1/models")


def _start_and_restore(monkeypatch: pytest.MonkeyPatch, start: object) -> object:
    def start_then_restore(**arguments: object) -> object:
        monkeypatch.setattr(connection, "__version__", __version__)
        return start(**arguments)  # type: ignore[operator]

    return start_then_restore
