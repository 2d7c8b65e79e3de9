"""A worker that crashes: what it died of is said, and it is not started for ever."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from nbllama.cli.main import main
from nbllama.worker import connection, crash_loop, post_mortem
from nbllama.worker.errors import WorkerDied, WorkerError

# As faulthandler writes it.
CRASH = """2026-01-01 00:00:00 INFO pid {pid} starts: nbllama 0, python
2026-01-01 00:00:00 INFO llama-cpp-python 0.3.36 (CPU : AVX2 = 1 | AMX_INT8 = 1)
{between}Fatal Python error: Segmentation fault

Current thread 0x01 (most recent call first):
  File "/x/nbllama/engine/llama_runtime.py", line 180 in decode
"""


def crash_by(endpoint: connection.Endpoint, between: str = "") -> None:
    """As if the engine thread had crashed."""
    with Path(endpoint.info["log"]).open("a") as log:
        log.write(CRASH.format(pid=endpoint.pid, between=between))
    os.kill(endpoint.pid or 0, signal.SIGKILL)


def test_a_crash_in_the_first_decode_is_named_with_the_build(startable: Path) -> None:
    endpoint = connection.ensure()
    events = connection.stream_events(endpoint, {"model": "endless"})
    next(events)
    crash_by(endpoint)

    with pytest.raises(WorkerDied, match=r"SIGSEGV in its first decode.*AMX_INT8 = 1.*-U__AMX_INT8__"):
        list(events)


def test_a_real_crash_is_named(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = startable / "python"
    crash = "import faulthandler, os, signal; faulthandler.enable(); os.kill(os.getpid(), signal.SIGSEGV)"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{crash}'\n")
    for _ in range(crash_loop.CRASHES):
        with pytest.raises(WorkerError, match=r"ended at its start \(signal 11: it crashed with SIGSEGV"):
            connection.ensure()
    with pytest.raises(WorkerError, match=r"(?s)crashed 3 times.*tried again in \d+ s.*nbllama stop.*Segmentation"):
        connection.ensure()


def test_later_crashes_do_not_blame_the_build(startable: Path) -> None:
    endpoint = connection.ensure()
    crash_by(endpoint, "INFO first decode done\n")

    assert post_mortem.crash(endpoint.info) == "it crashed with SIGSEGV in a later decode"


def test_another_threads_decode_did_not_crash(startable: Path) -> None:
    endpoint = connection.ensure()
    with Path(endpoint.info["log"]).open("a") as log:
        dump = CRASH.format(pid=endpoint.pid, between="").replace("Current thread", "Thread")
        log.write(dump + '\nCurrent thread 0x02 (most recent call first):\n  File "/x/loop.py", line 1 in run\n')

    assert post_mortem.crash(endpoint.info) == "it crashed with SIGSEGV"


def test_lack_of_memory_at_the_start(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (startable / "python").write_text("#!/bin/sh\nkill -KILL $$\n")
    counts = iter([5, 6])
    monkeypatch.setattr(post_mortem, "oom_kills", lambda: next(counts))

    with pytest.raises(WorkerError, match=r"ended at its start \(signal 9: the machine ran out of memory"):
        connection.ensure()


def test_a_loop_ends_in_an_error_and_stop_lets_it_be_tried_again(startable: Path) -> None:
    for _ in range(crash_loop.CRASHES):
        crash_by(connection.ensure())
    with pytest.raises(WorkerError, match="crashed 3 times"):
        connection.ensure()
    assert len((startable / "starts").read_text().split()) == crash_loop.CRASHES
    (startable / "nbllama-p1.json").unlink()
    assert main(["stop"]) == 0

    assert connection.ensure().is_worker


def test_another_version_is_tried(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in range(crash_loop.CRASHES):
        crash_loop.note("it crashed", pid)
    monkeypatch.setattr(crash_loop, "__version__", "999")

    assert connection.ensure().is_worker


def test_who_was_killed_did_not_crash(startable: Path) -> None:
    for _ in range(crash_loop.CRASHES + 1):
        os.kill(connection.ensure().pid or 0, signal.SIGKILL)

    assert connection.ensure().is_worker


def test_lack_of_memory_is_told_with_numbers(startable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = connection.ensure()
    events = connection.stream_events(endpoint, {"model": "endless"})
    next(events)
    monkeypatch.setattr(post_mortem, "oom_kills", lambda: (endpoint.info["oom_kills"] or 0) + 1)
    os.kill(endpoint.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerDied, match=r"ran out of memory.*now [\d.]+ of [\d.]+ GB are free"):
        list(events)
