"""The worker's log: bounded while it runs, followed over the change of files, and lost rather than the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbllama.worker import connection, runtime_dir
from nbllama.worker.log_output import rotated

ROOT = Path(__file__).parents[2]
WRITER = """
import logging, os, sys
from pathlib import Path
from nbllama.worker.log_output import LogOutput
logging.getLogger().addHandler(LogOutput(Path(sys.argv[1]), max_bytes=2000))
for number in sys.stdin:
    logging.error("line %s", number.strip())
    os.write(2, b"from C\\n")
    print("done", file=sys.__stdout__, flush=True)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_it_is_turned_over_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "w.log"
    with path.open("ab") as log:
        command = [sys.executable, "-c", WRITER, str(path)]
        lines = "".join(f"{number}\n" for number in range(200))
        subprocess.run(command, input=lines, text=True, stdout=log, stderr=log, env=environment(), check=True)

    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.log", "w.log.1"]
    assert all(entry.stat().st_size < 2200 for entry in tmp_path.iterdir())
    last = path.read_text().splitlines()[-3:]
    assert last[0].endswith("line 199")
    # What does not come through logging went into the new file too.
    assert last[1:] == ["from C", "done"]
    assert rotated(path).stat().st_size > 1000


def test_following_goes_on_in_the_next_file(runtime: Path) -> None:
    path = runtime_dir.log_file()
    path.write_text("first\n")
    command = [sys.executable, "-c", "from nbllama.cli.main import main; main(['logs', '-f'])"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert follower.stdout is not None
    try:
        assert follower.stdout.readline() == "first\n"
        with path.open("a") as old:
            os.replace(path, rotated(path))
            old.write("last of the old\n")
        path.write_text("first of the new\n")
        assert follower.stdout.readline() == "last of the old\n"
        assert follower.stdout.readline() == "first of the new\n"
    finally:
        follower.kill()
        follower.communicate()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_worker_goes_on_when_the_disk_is_full_for_its_log(runtime: Path) -> None:
    (runtime / "model.json").write_text('{"rules": [{"when": "", "answer": "one two"}]}')
    command = [sys.executable, "-P", "-m", "nbllama.worker", "--model", f"scripted:{runtime / 'model.json'}"]
    with open("/dev/full", "wb", buffering=0) as full:
        worker = subprocess.Popen(command, stdout=full, stderr=full, env=environment(), cwd=runtime)
    try:
        while (endpoint := connection.find()) is None:
            assert worker.poll() is None
        body = {"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        message = connection.request_json(endpoint, "POST", "/v1/messages", body)
        assert message["content"][0]["text"] == "one two"
        assert connection.stop(endpoint)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
