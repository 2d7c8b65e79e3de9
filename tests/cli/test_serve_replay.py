"""`nbllama serve --replay` as a user runs it without llama_cpp: the SDK, a tool loop, and what is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from nbllama.cli.main import main
from nbllama.wire.cassette_file import encode
from tests.cassettes.tapes import answering, asking, call, recorded, tape, text
from tests.cli.test_serve import ROOT, Place, ask, end, stream

SERVING = re.compile(r"nbllama: serving a replay of lesson\.json \((\d+) recordings\) at http://127\.0\.0\.1:(\d+)\n")
WITHOUT_LLAMA_CPP = (
    "import sys; sys.modules['llama_cpp'] = sys.modules['llguidance'] = None;"
    "from nbllama.cli.main import main; sys.exit(main())"
)
TOOLS: Any = [{"name": "get_weather", "input_schema": {"type": "object"}}]


class ReplayPlace(Place):
    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WITHOUT_LLAMA_CPP, "serve", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)
        self.processes.append(process)
        return process


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        place = ReplayPlace(Path(folder))
        (place.folder / "lesson.json").write_bytes(encode(lesson().cassette, compressed=False))
        try:
            yield place
        finally:
            place.close()


def lesson() -> Any:
    first = asking("weather?", tools=TOOLS)
    turns = [*first["messages"], {"role": "assistant", "content": [call(id="toolu_then")]}]
    result = {"type": "tool_result", "tool_use_id": "toolu_then", "content": "18"}
    second = first | {"messages": [*turns, {"role": "user", "content": [result]}]}
    return tape(
        recorded(first, answering(call())),
        recorded(second, answering(text("18 degrees."), id="msg_2")),
        recorded(asking("slow"), answering(text("never")), 1000.0),
    )


@pytest.fixture(scope="module")
def port(place: Place) -> int:
    process = place.begin("--replay", "lesson.json", "--speed", "0", "--token", "t", "--port", "0")
    line = stream(process.stdout).readline()
    found = SERVING.fullmatch(line)
    assert found is not None, f"{line!r}: {stream(process.stderr).read()}"
    return int(found[2])


def test_the_sdk_streams_a_tool_loop(place: Place, port: int) -> None:
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="t", max_retries=0)
    messages: Any = [{"role": "user", "content": "weather?"}]
    kinds = []
    for _ in range(2):
        with client.messages.stream(model="m", max_tokens=9, tools=TOOLS, messages=messages) as answer:
            kinds.append([event.type for event in answer])
            message = answer.get_final_message()
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "18"}
            for block in message.content
            if block.type == "tool_use"
        ]
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]

    assert "input_json" in kinds[0] and "text" in kinds[1]
    assert message.content[0].type == "text" and message.content[0].text == "18 degrees."
    assert [model.id for model in client.models.list()] == ["m"]
    traces = ask(port, "t", "GET", "/nbllama/traces")[1]["traces"]
    assert [trace["ending"] for trace in traces] == ["done", "done"]
    with pytest.raises(anthropic.BadRequestError, match=r"differs in messages\.0\.content\.0\.text"):
        client.messages.create(**asking("weather!", tools=TOOLS))
    assert place.worker() is None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(port: int) -> None:
    body = '{"model":"any","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"slow"}]}'
    headers = ["-H", "x-api-key: t", "-H", "content-type: application/json", "-H", "anthropic-version: 2023-06-01"]
    url = f"http://127.0.0.1:{port}/v1/messages"
    result = subprocess.run(["curl", "-sN", url, *headers, "-d", body], capture_output=True, text=True, check=True)
    names = re.findall(r"^event: (\w+)$", result.stdout, re.MULTILINE)
    assert (names[0], names[-1]) == ("message_start", "message_stop")
    assert ask(port, "wrong")[0] == 401


def test_it_ends_while_a_slow_answer_is_on_its_way(place: Place) -> None:
    process = place.begin("--replay", "lesson.json", "--token", "t", "--port", "0")
    found = SERVING.fullmatch(stream(process.stdout).readline())
    assert found is not None
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{found[2]}", api_key="t", max_retries=0)
    with client.messages.create(**asking("slow"), stream=True) as answer:
        events = iter(answer)
        assert next(events).type == "message_start"
        end(process, signal.SIGTERM)
        with pytest.raises(anthropic.APIError):
            next(events)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "missing.json"], "missing.json cannot be read: No such file or directory"),
        (["--replay", "first.json"], "first.json is no cassette: it is JSON, but no recording of nbllama's"),
        (["--replay", "lesson.json", "--speed", "-1"], "speed -1: 1 is as recorded, 4 four times as fast, 0 at once"),
        (["--replay", "lesson.json", "--model", "demo"], "--replay answers without a model: leave --model"),
        (["--speed", "1"], "--speed is of a replay: say which with --replay FILE"),
    ],
)
def test_what_cannot_be_replayed_is_one_clear_line(
    place: Place,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place.folder)
    assert main(["serve", *arguments, "--token", "t", "--port", "0"]) == 1
    assert capsys.readouterr().err.startswith(f"nbllama: {said}")


def test_the_door_and_its_replay_need_no_engine() -> None:
    code = (
        f"{WITHOUT_LLAMA_CPP.partition('from')[0]}import nbllama.cli.serve, nbllama.cassettes.player,"
        " nbllama.worker.door, nbllama.worker.link\n"
        "print([n for n in ('nbllama.engine', 'nbllama.answer', 'pandas', 'jinja2') if n in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
