"""`nbllama serve` as a user runs it: what it prints, how it ends, and what it leaves behind."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest

from nbllama.cli import serve

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
SERVING = re.compile(r"nbllama: serving (\S+) at http://127\.0\.0\.1:(\d+)\n")
SCRIPT = {"rules": [{"when": "for ever", "answer": "on " * 2000, "delay_s": 0.05}], "default": "Hello from the script."}


class Place:
    """A runtime folder of its own, in which doors are opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        for name in ("first", "second"):
            (folder / f"{name}.json").write_text(json.dumps(SCRIPT))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NBLLAMA_")}
        places = {"PYTHONPATH": str(ROOT), "NBLLAMA_RUNTIME_DIR": str(self.folder / "run"), "HOME": str(self.folder)}
        return kept | places | {"NBLLAMA_IDLE_EXIT": "20", "JUPYTER_CONFIG_DIR": str(self.folder / "config")}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nbllama", "serve", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)
        self.processes.append(process)
        return process

    def open(self, *arguments: str) -> tuple[subprocess.Popen[str], str, int]:
        """The process, the model and the port of a door that serves."""
        process = self.begin(*arguments, "--port", "0")
        line = stream(process.stdout).readline()
        found = SERVING.fullmatch(line)
        if found is None:
            raise AssertionError(f"{line!r}: {stream(process.stderr).read()}")
        return process, found[1], int(found[2])

    def fails(self, *arguments: str) -> str:
        """Standard error of a door that cannot be opened."""
        process = self.begin(*arguments)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1, (output, errors)
        assert output == ""
        return errors

    def worker(self) -> int | None:
        with contextlib.suppress(OSError):
            return int(json.loads((self.folder / "run" / "nbllama-p1.json").read_text())["pid"])
        return None

    def close(self) -> None:
        worker = self.worker()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def stream(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise AssertionError("not a pipe")
    return pipe


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """What was still written."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output, errors


def ask(port: int, token: str, method: str = "POST", path: str = "/v1/messages", **fields: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    body = {"model": "any", "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}], **fields}
    try:
        connection.request(method, path, body=json.dumps(body), headers={"x-api-key": token})
        response = connection.getresponse()
        data = response.read()
        is_json = "json" in response.headers["content-type"]
        return response.status, json.loads(data) if is_json else data.decode()
    finally:
        connection.close()


def model_that_answers(port: int, token: str) -> str | None:
    """The header `nbllama-model` of an answer to a request for a model that nobody knows."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    body = {"model": "claude-unknown", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    connection.request("POST", "/v1/messages", body=json.dumps(body), headers={"x-api-key": token})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.headers["nbllama-model"]


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        place = Place(Path(folder))
        try:
            yield place
        finally:
            place.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_door_opens_answers_and_ends_with_its_worker(place: Place, number: signal.Signals) -> None:
    process, model, port = place.open("--model", "scripted:first.json", "--token", "t")
    assert model == "first"
    status, answer = ask(port, "t")
    assert (status, answer["content"][0]["text"]) == (200, "Hello from the script.")
    assert ask(port, "wrong")[0] == 401
    assert ask(port, "t", "GET", "/nbllama/status")[1]["attached"] == 1
    output, errors = end(process, number)
    assert output == ""
    assert "Traceback" not in errors
    assert place.worker() is None


def test_without_a_token_a_random_one_goes_to_standard_error(place: Place) -> None:
    process, _, port = place.open("--model", "scripted:first.json")
    _, errors = end_after(process, lambda token: ask(port, token)[0] == 200)
    assert "Traceback" not in errors


def end_after(process: subprocess.Popen[str], check: Any) -> tuple[str, str]:
    token = None
    while token is None:
        found = re.fullmatch(r"nbllama: the token is (\S+)\n", stream(process.stderr).readline())
        token = found and found[1]
    assert check(token)
    return end(process, signal.SIGTERM)


def test_a_second_door_shares_the_worker_and_adds_its_model(place: Place) -> None:
    first, _, _ = place.open("--model", "scripted:first.json", "--token", "t")
    worker = place.worker()
    second, model, port = place.open("--model", "scripted:second.json", "--token", "t")
    assert model == "second"
    assert place.worker() == worker
    models = ask(port, "t", "GET", "/nbllama/status")[1]["models"]
    assert {entry["id"]: entry["state"] for entry in models} == {"first": "loaded", "second": "loaded"}
    # Its own model answers a request that names none that is known, whichever model the worker was started with.
    assert model_that_answers(port, "t") == "second"
    # The first door started the worker; it stays for the second.
    end(first, signal.SIGTERM)
    assert ask(port, "t")[0] == 200
    end(second, signal.SIGTERM)


def test_a_stream_is_told_when_the_door_closes(place: Place) -> None:
    process, _, port = place.open("--model", "scripted:first.json", "--token", "t")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    turn = {"role": "user", "content": "for ever"}
    message = {"model": "any", "max_tokens": 4000, "stream": True, "messages": [turn]}
    connection.request("POST", "/v1/messages", body=json.dumps(message), headers={"x-api-key": "t"})
    response = connection.getresponse()
    data = b""
    while b"content_block_delta" not in data:
        data += response.read1(65536)
    process.send_signal(signal.SIGINT)
    names = re.findall(r"^event: (\w+)$", (data + response.read()).decode(), re.MULTILINE)
    connection.close()
    process.communicate(timeout=PATIENCE)
    assert (names[-1], names.count("error"), names.count("message_stop")) == ("error", 1, 0)


@pytest.mark.parametrize("model", ["scripted:missing.json", "missing.gguf", "no-such-model"])
def test_a_missing_model_is_one_clear_line(place: Place, model: str) -> None:
    errors = place.fails("--model", model, "--token", "t", "--port", "0")
    assert model.removeprefix("scripted:") in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert place.worker() is None


@pytest.mark.parametrize("model", ["scripted:broken.json", "broken.gguf"])
def test_a_broken_model_is_one_clear_line(place: Place, model: str) -> None:
    name = model.removeprefix("scripted:")
    (place.folder / name).write_bytes(b"{not a model")
    errors = place.fails("--model", model, "--token", "t", "--port", "0")
    assert name in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_a_port_in_use_is_said_before_anything_starts(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        errors = place.fails("--model", "scripted:first.json", "--token", "t", "--port", port)
    assert port in errors
    assert place.worker() is None


@pytest.mark.parametrize("arguments", [["--host", "0.0.0.0"], ["--token", ""], ["--ctx", "0"], ["--port", "70000"]])
def test_what_cannot_be_opened_is_refused(place: Place, arguments: list[str]) -> None:
    errors = place.fails("--model", "scripted:first.json", *arguments)
    assert errors.startswith("nbllama: ")
    assert place.worker() is None


def test_references_mean_the_same_in_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "model").write_bytes(b"")
    assert serve.absolute_reference(None) is None
    assert serve.absolute_reference("demo") == "demo"
    assert serve.absolute_reference("owner/repo") == "owner/repo"
    assert serve.absolute_reference("model") == str(tmp_path / "model")
    assert serve.absolute_reference("a.gguf") == str(tmp_path / "a.gguf")
    assert serve.absolute_reference("~/a.gguf") == str(tmp_path / "home" / "a.gguf")
    assert serve.absolute_reference("scripted:s.json") == f"scripted:{tmp_path / 's.json'}"


def test_defaults() -> None:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    args = cast("Any", parser.parse_args([]))
    assert (args.model, args.host, args.port, args.token, args.ctx) == (None, "127.0.0.1", 8010, None, None)
