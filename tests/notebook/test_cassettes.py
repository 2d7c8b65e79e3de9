"""A lesson is recorded with a real worker, and runs again without one; what is recorded, and what is not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbllama
from nbllama.cassettes.recording import Recording
from nbllama.notebook import cassettes
from nbllama.notebook.errors import AskError
from nbllama.notebook.kernel_link import link
from nbllama.views import every
from nbllama.wire.cassette_file import CassetteError, decode, encode
from nbllama.worker import connection, starting
from tests.cassettes.tapes import answering, asking, recorded, tape, text
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import DIE, HOLD, FakeWorker, start_of_text
from tests.notebook.fake_worker import text as fake_text

ROOT = Path(__file__).parents[2]
HELLO: Any = {"model": "fake", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
SCRIPT = {
    "rules": [
        {
            "when": "weather",
            "answer": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        },
        {"when": "tool_response", "answer": "It is 18 degrees in Paris."},
    ],
    "default": "Hello from the script.",
}
TOOLS: Any = [
    {
        "name": "get_weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


@pytest.fixture(autouse=True)
def no_detour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "detour", None)
    monkeypatch.setattr(cassettes, "_begun", set())


@pytest.fixture
def start_worker(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Starts the real one and returns its pid. No other can be started."""
    pids = []

    def started(model: str) -> int:
        with monkeypatch.context() as patched:
            patched.setattr(starting, "_has_llama_cpp", lambda: True)
            pid = connection.ensure(model=model).pid
        (runtime / "interpreter.json").unlink()
        assert pid is not None
        pids.append(pid)
        return pid

    yield started
    for pid in pids:
        kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def lesson() -> list[Any]:
    """One of each: a Message, a stream, a loop with a tool, a count, asyncio. What its cells would show."""
    client = nbllama.client(max_retries=0)
    messages: Any = [{"role": "user", "content": "What is the weather?"}]
    shown: list[Any] = [client.messages.create(**HELLO).to_dict()]
    for _ in range(2):
        with client.messages.stream(model="m", max_tokens=40, tools=TOOLS, messages=messages) as stream:
            events = [event.type for event in stream]
            message = stream.get_final_message()
        shown += [events, message.to_dict()]
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "18"}
            for block in message.content
            if block.type == "tool_use"
        ]
        again = results or [{"type": "text", "text": "And then?"}]
        messages = [*messages, {"role": "assistant", "content": message.content}, {"role": "user", "content": again}]
    shown.append(client.messages.count_tokens(model="m", messages=messages, tools=TOOLS).input_tokens)

    async def ask() -> Any:
        async with nbllama.async_client(max_retries=0) as asking_client:
            return (await asking_client.messages.create(**HELLO)).to_dict()

    return [*shown, asyncio.run(ask())]


@pytest.mark.parametrize("model", ["scripted:script.json", "demo"])
def test_a_lesson_runs_again_without_a_worker(
    start_worker: Callable[[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    pid = start_worker(model)
    cassettes.record(["lesson.json.gz"])
    first = lesson()
    assert cassettes.record(["off"]).startswith("5 requests recorded in ")
    link.detach()
    kill(pid)

    with pytest.raises(Exception, match="no worker is running"):
        lesson()
    assert "5 recordings" in cassettes.replay(["lesson.json.gz", "speed=0"])
    assert lesson() == first
    record = nbllama.last.record if nbllama.last is not None else {}
    assert record["warnings"][0].startswith("replayed from lesson.json.gz, recording 5 of 5")
    assert record["prompt_ids"] and record["token_times"]
    assert nbllama.last is not None and nbllama.last.message is not None
    for name in every.NAMES:
        assert every.view_of(name, record).html()
    assert len(nbllama.traces()) == 4


def test_cells_are_recorded_and_replayed(shell: Shell, worker: FakeWorker, tmp_path: Path) -> None:
    file = tmp_path / "my cells.json"
    shell.run(f'%llama record "{file}"')
    shell.run("%%llama -o message\nHi")
    shell.run("%llama record off")
    shown = shell.last["text/plain"]
    worker.die()
    link.detach()

    shell.run(f'%llama replay "{file}" speed=0')
    shell.run("%%llama -o message\nHi")
    assert (shell.last["text/plain"], shell.ip.user_ns["message"].content[0].text) == (shown, "Hello there")
    error = shell.fails("%%llama\nHo")
    assert isinstance(error, AskError)
    for part in ("my cells.json", "messages.0.content.0.text", '"Hi"', '"Ho"'):
        assert part in str(error)
    assert "its server" not in str(error)
    assert isinstance(shell.fails("%llama load demo"), AskError)
    shell.run("%llama status")
    shell.run("%llama replay off")
    assert isinstance(shell.fails("%%llama\nHi"), AskError)


def test_what_breaks_off_is_not_recorded(worker: FakeWorker, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    cassettes.record([str(file)])
    client = nbllama.client(max_retries=0)
    worker.steps = [*start_of_text(), fake_text("He"), HOLD]
    with client.messages.stream(**HELLO) as stream:
        assert next(stream.text_stream) == "He"
    assert worker.client_gone.wait(10)
    worker.steps = [*start_of_text(), fake_text("He"), DIE]
    with pytest.raises(Exception, match="the worker went away"), client.messages.stream(**HELLO) as stream:
        stream.until_done()

    assert not file.exists()
    assert "broken off" in cassettes.record([])
    assert "nothing was asked" in cassettes.record(["off"])


def test_errors_and_what_another_server_says_are_recorded(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeWorker(None) as other:
        monkeypatch.setenv("NBLLAMA_BASE_URL", other.url)
        monkeypatch.setenv("NBLLAMA_API_KEY", "a-key")
        cassettes.record([str(tmp_path / "c.json")])
        client = nbllama.client(max_retries=0)
        with client.messages.stream(**HELLO) as stream:
            heard = stream.get_final_message().to_dict()
        other.refusal = (529, {"type": "error", "error": {"type": "overloaded_error", "message": "too many"}})
        with pytest.raises(Exception, match="too many"):
            client.messages.create(**{**HELLO, "max_tokens": 51})
        cassettes.record(["off"])
        assert {request.headers.get("x-api-key") for request in other.received} == {"a-key"}

    monkeypatch.delenv("NBLLAMA_BASE_URL")
    cassettes.replay([str(tmp_path / "c.json"), "--speed", "0"])
    assert client.messages.create(**HELLO).to_dict() == heard
    with pytest.raises(Exception, match="too many"):
        client.messages.create(**{**HELLO, "max_tokens": 51})


def test_a_file_that_cannot_be_written_loses_no_answer(worker: FakeWorker, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    cassettes.record([str(folder / "c.json")])
    folder.rmdir()
    assert nbllama.client(max_retries=0).messages.create(**HELLO).content
    assert "cannot be written" in cassettes.record([])
    folder.mkdir()
    nbllama.client(max_retries=0).messages.create(**HELLO)
    assert cassettes.record(["off"]).startswith("2 requests recorded")
    assert [path.name for path in folder.iterdir()] == ["c.json"]


def test_what_cannot_be_recorded_to_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"my": "notes"}')
    (tmp_path / "old.json").write_bytes(encode(tape(recorded(asking("hi"), answering())).cassette, compressed=False))
    for file, said in [
        ("notes.json", "is not replaced, as it is something else"),
        ("missing/c.json", "cannot be written"),
        (".", "cannot be recorded to"),
    ]:
        with pytest.raises(CassetteError, match=said):
            cassettes.record([str(tmp_path / file)])
    assert (tmp_path / "notes.json").read_text() == '{"my": "notes"}'
    assert Recording(tmp_path / "old.json").n_replaced == 1
    assert len(decode((tmp_path / "old.json").read_bytes(), "old.json").exchanges) == 1


def test_two_kernels_that_record_to_one_file_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lesson.json"
    one, other = Recording(file), Recording(file)
    one.add(recorded(asking("hi"), answering(text("one"))))
    other.add(recorded(asking("ho"), answering(text("other"))))

    assert one.failure == "" and "lesson.json was changed by somebody else" in other.failure
    assert len(decode(file.read_bytes(), "lesson.json").exchanges) == 1
    file.rename(tmp_path / "first.json")
    other.add(recorded(asking("hu"), answering(text("other"))))
    assert other.failure == "", "what it could not write before is in it"
    assert len(decode(file.read_bytes(), "lesson.json").exchanges) == 2


def test_a_file_that_is_full_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lesson.json.gz"
    recording = Recording(file)
    recording.add(recorded(asking("hi"), answering(text("one"))))
    monkeypatch.setattr("nbllama.cassettes.recording.MOST_BYTES", 20_000)
    recording.add(recorded(asking("long"), answering(text("word " * 4000))))
    recording.add(recorded(asking("ho"), answering(text("two"))))

    assert "is full with" in recording.failure and "record to another file" in recording.failure
    assert [one.request for one in decode(file.read_bytes(), "lesson.json.gz").exchanges] == [asking("hi")]
    assert recording.n_recorded == 1


def test_what_cannot_be_replayed_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_bytes(encode(tape(recorded(asking("hi"), answering())).cassette, compressed=False))
    for words, said in [
        (["missing.json"], "cannot be read"),
        ([str(file), "speed=fast"], "speed fast: 1 is as recorded"),
        ([str(file), "--speed", "-1"], "speed -1"),
        ([str(file), "--speed"], "speed : 1 is"),
        ([str(file), "speed=nan"], "speed nan"),
        ([str(file), "other.json"], "one file is replayed"),
    ]:
        with pytest.raises(CassetteError, match=said):
            cassettes.replay(words)
    assert link.detour is None
    cassettes.replay([str(file)])
    with pytest.raises(CassetteError, match="a replay would be recorded"):
        cassettes.record([str(tmp_path / "d.json")])


def test_a_replay_in_a_kernel_loads_no_server_and_no_engine(tmp_path: Path) -> None:
    """In a process of its own, which NBLLAMA_REPLAY alone tells what to do."""
    file = tmp_path / "c.json"
    file.write_bytes(encode(tape(recorded(asking("hi"), answering(text("Hello")), 1000.0)).cassette, compressed=False))
    heavy = ["llama_cpp", "llguidance", "tornado", "jupyter_server", "pandas", "jinja2", "numpy"]
    code = f"""
import sys, nbllama
print(nbllama.client().messages.create(**{asking("hi")!r}).content[0].text, nbllama.last.text)
print([name for name in {heavy} if sys.modules.get(name)])
from nbllama.notebook import cassettes
print(cassettes.replay(["off"]))
try:
    nbllama.client(max_retries=0).messages.create(**{asking("hi")!r})
except Exception as error:
    print("no worker" in str(error))
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NBLLAMA_")}
    own = {"NBLLAMA_REPLAY": str(file), "NBLLAMA_REPLAY_SPEED": "0", "NBLLAMA_RUNTIME_DIR": str(tmp_path / "run")}
    blocked = "import sys\nsys.modules['llama_cpp'] = None\n"
    result = subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=ROOT,
        env={**kept, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.splitlines()[:2] == ["Hello Hello", "[]"], result.stdout + result.stderr
    assert result.stdout.splitlines()[2:] == [
        "no longer replaying c.json: requests go to the model again",
        "True",
    ], result.stdout + result.stderr
