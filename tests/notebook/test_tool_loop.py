"""`nbllama.run_tools` and `%%llama --tools` in a real IPython shell, with a worker whose answers are written down."""

from __future__ import annotations

import builtins
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from IPython.core.error import UsageError

import nbllama
from nbllama.notebook import display
from nbllama.notebook.errors import AskError, ToolsError
from nbllama.notebook.tools import view
from nbllama.notebook.tools.calling import Call
from nbllama.notebook.tools.run import Step, ToolRun
from nbllama.wire.events import ContentBlockDelta, ContentBlockStart
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import DIE, FakeWorker, end, end_of_block, start, text_answer
from tests.notebook.fake_worker import Step as Sent
from tests.notebook.test_rendering import ACTING, HOSTILE, check_html

TOOLS = """
import nbllama
ran = []
def add(x: int, y: int = 1) -> int:
    "Adds."
    ran.append(("add", x, y)); print("adding", x)
    return x + y
async def later(x: int) -> dict:
    ran.append(("later", x))
    return {"x": x}
def fails(x: int) -> str:
    raise KeyError("no <b>such</b> key")
"""


def calling(*calls: tuple[str, Any], ending: str = "tool_use") -> list[Sent]:
    """An answer that makes these calls, the arguments of each in two pieces."""
    steps = start()
    for index, (name, arguments) in enumerate(calls):
        sent = arguments if isinstance(arguments, str) else json.dumps(arguments)
        steps.append(ContentBlockStart(index, {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}))
        for piece in (sent[:4], sent[4:]):
            steps.append(ContentBlockDelta(index, {"type": "input_json_delta", "partial_json": piece}))
        steps += end_of_block(index)
    return [*steps, *end(ending)]


@pytest.fixture
def tools(shell: Shell) -> Shell:
    shell.run(TOOLS)
    return shell


def run(shell: Shell, worker: FakeWorker, *answers: list[Sent], options: str = "") -> ToolRun:
    worker.next_answers = list(answers)
    shell.run(f"run = nbllama.run_tools('How much?', [add, later, fails]{options})")
    result: ToolRun = shell.ip.user_ns["run"]
    return result


def test_calls_are_run_and_told_until_there_is_an_answer(tools: Shell, worker: FakeWorker) -> None:
    result = run(tools, worker, calling(("add", {"x": 1}), ("later", {"x": 2})), text_answer("It is 2."))

    assert tools.ip.user_ns["ran"] == [("add", 1, 1), ("later", 2)]
    first, second = worker.requests("/v1/messages")
    assert [tool["name"] for tool in first.body["tools"]] == ["add", "later", "fails"]
    assert second.body["messages"] == result.messages[:-1]
    assert [message["role"] for message in result.messages] == ["user", "assistant", "user", "assistant"]
    assert result.messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_0", "content": "2"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"x": 2}'},
    ]
    assert (result.ending, result.text, len(result.steps)) == ("end_turn", "It is 2.", 2)
    assert result.message is not None and result.message.stop_reason == "end_turn"
    assert nbllama.last is result.steps[-1].trace


def test_the_table(tools: Shell, worker: FakeWorker) -> None:
    frame = run(tools, worker, calling(("add", {"x": 1}), ("fails", {"x": 2})), text_answer("So.")).df

    assert list(frame.columns) == ["step", "tool", "arguments", "result", "state", "time_s"]
    assert frame.tool.to_list() == ["add", "fails"] and frame.state.to_list() == ["ok", "error"]
    assert frame.result.to_list() == ["2", "KeyError: 'no <b>such</b> key'"]
    assert pd.api.types.is_float_dtype(frame.time_s) and frame.step.dtype == "int64"


def test_what_is_shown(tools: Shell, worker: FakeWorker) -> None:
    run(tools, worker, calling(("add", {"x": 1}), ("fails", {"x": 2})), text_answer("So **much**."))
    # One output for each step, each updated in place.
    assert [update for _, update in tools.displays].count(False) == 2
    assert (
        "So <strong>much</strong>" in tools.last["text/html"] and "fake · 4.8 M parameters" in tools.last["text/html"]
    )
    step = [data for data, _ in tools.displays if "✗ error" in data["text/html"]][-1]
    assert "✓ done" in step["text/html"] and "traceback" in step["text/html"]
    assert "no &lt;b&gt;such&lt;/b&gt; key" in step["text/html"] and "<b>" not in step["text/html"]
    assert '[tool call] add {"x": 1}' in step["text/plain"] and "KeyError: 'no <b>such</b> key'" in step["text/plain"]


def test_arguments_are_shown_as_they_stream(tools: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "INTERVAL", 0.0)
    run(tools, worker, calling(("add", {"x": 1})), text_answer("2"))

    written = [data["text/html"] for data, _ in tools.displays if "… being written" in data["text/html"]]
    assert any(">{&quot;x&quot;</pre>" in html for html in written)


def test_updates_are_limited(tools: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [ContentBlockDelta(0, {"type": "input_json_delta", "partial_json": " "}) for _ in range(300)]
    answer = calling(("add", {"x": 1}))
    clock = itertools.count(100.0, 0.03)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run(tools, worker, [*answer[:2], *pieces, *answer[2:]], text_answer("2"))

    assert 300 // 4 <= len(tools.displays) <= 300 // 4 + 12


def test_the_run_is_on_the_screen_once(tools: Shell, worker: FakeWorker) -> None:
    result = run(tools, worker, calling(("add", {"x": 1})), text_answer("It is 2."))

    result.shown_in(tools.ip.execution_count)
    assert result._repr_mimebundle_() == {"text/plain": "ToolRun(2 steps, 1 call, 'end_turn')"}
    result.shown_in(0)
    shown = result._repr_mimebundle_()
    assert "It is 2." in shown["text/html"] and '[tool call] add {"x": 1}' in shown["text/plain"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("ad", {"x": 1}), "There is no tool 'ad': there is add, later, fails. Did you mean add?"),
        (("add", {"x": "q"}), "The arguments do not fit add: x: Input should be a valid integer"),
        (("fails", {"x": 1}), "KeyError: 'no <b>such</b> key'"),
    ],
)
def test_errors_are_told_to_the_model(call: tuple[str, Any], told: str, tools: Shell, worker: FakeWorker) -> None:
    result = run(tools, worker, calling(call), text_answer("Sorry."))

    block = result.messages[2]["content"][0]
    assert block["is_error"] and block["content"].startswith(told)
    assert result.ending == "end_turn"


def test_the_step_limit(tools: Shell, worker: FakeWorker) -> None:
    worker.steps = calling(("add", {"x": 1}))
    result = run(tools, worker, options=", max_steps=3")

    assert (result.ending, len(result.steps), len(tools.ip.user_ns["ran"])) == ("max_steps", 3, 2)
    assert [call.state for call in result.calls] == ["ok", "ok", "not run"]
    assert "step limit: 3 answers" in tools.last["text/html"] and "[step limit: 3 answers" in tools.last["text/plain"]
    # It can be gone on with: each call has its result.
    assert result.messages[-1]["content"][0]["content"].startswith("This call was not run")
    worker.next_answers = [text_answer("Done.")]
    tools.run("more = nbllama.run_tools(run.messages, [add])")
    assert tools.ip.user_ns["more"].messages[:-1] == result.messages


@pytest.mark.parametrize("ending", ["max_tokens", "model_context_window_exceeded", "refusal"])
def test_a_call_that_is_cut_off_is_not_run(ending: str, tools: Shell, worker: FakeWorker) -> None:
    result = run(tools, worker, calling(("add", {"x": 1}), ending=ending))

    assert (result.ending, tools.ip.user_ns["ran"]) == (ending, [])
    assert [call.state for call in result.calls] == ["not run"]
    assert f"cut off ({ending})" in tools.last["text/html"] and "not run" in tools.last["text/plain"]


def test_confirm(tools: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["n", "y"])
    seen: list[str] = []

    def answer(question: str) -> str:
        seen.append(tools.last["text/html"])
        return next(answers)

    monkeypatch.setattr(builtins, "input", answer)
    calls = calling(("add", {"x": 1}), ("add", {"x": 2}))
    result = run(tools, worker, calls, text_answer("So."), options=", confirm=True")

    assert tools.ip.user_ns["ran"] == [("add", 2, 1)]
    assert [call.state for call in result.calls] == ["declined", "ok"]
    assert result.messages[2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "toolu_0",
        "content": "The user declined this call.",
        "is_error": True,
    }
    assert "{&quot;x&quot;: 1}" in seen[0]


def test_confirm_where_nobody_can_be_asked(tools: Shell, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(question: str) -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", closed)
    worker.next_answers = [calling(("add", {"x": 1}), ("add", {"x": 2}))]
    error = tools.fails("nbllama.run_tools('x', [add], confirm=True)")

    assert isinstance(error, ToolsError) and tools.ip.user_ns["ran"] == []
    assert [call.state for call in error.run.calls] == ["not run", "not run"]  # type: ignore[attr-defined]
    assert "nobody could be asked" in tools.last["text/html"]


def test_the_worker_dies(tools: Shell, worker: FakeWorker) -> None:
    worker.next_answers = [calling(("add", {"x": 1})), [*start(), DIE]]
    error = tools.fails("nbllama.run_tools('x', [add])")

    assert isinstance(error, AskError)
    assert [call.content for call in error.run.calls] == ["2"]  # type: ignore[attr-defined]
    assert "ended by an error" in tools.last["text/html"]


def test_arguments_that_are_no_json(tools: Shell, worker: FakeWorker) -> None:
    worker.next_answers = [calling(("add", '{"x": '))]

    assert "arguments that are no JSON" in str(tools.fails("nbllama.run_tools('x', [add])"))


def test_the_magic(tools: Shell, worker: FakeWorker) -> None:
    worker.steps = calling(("add", {"x": 1}))
    tools.run(
        "%%llama --tools add,later --steps 2 -n 7 -s 'Be brief.' -o run\nHow {{'much'}}?".replace("{{'much'}}", "much")
    )
    result = tools.ip.user_ns["run"]

    assert (result.ending, len(result.steps)) == ("max_steps", 2)
    body = worker.requests("/v1/messages")[0].body
    assert (body["max_tokens"], body["system"], len(body["tools"])) == (7, "Be brief.", 2)
    assert body["messages"] == [{"role": "user", "content": "How much?"}]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--tools ad", "there is no function ad\n→ did you mean add?"),
        ("--tools add,add", "add is there twice"),
        ("--tools ran", "a function is needed"),
        ("--tools nbllama.nothing", "nbllama has no nothing"),
        ("--tools ''", "there is none"),
        ("--tools add --steps 0", "at least 1"),
    ],
)
def test_usage(line: str, told: str, tools: Shell, worker: FakeWorker) -> None:
    error = tools.fails(f"%%llama {line}\nHi")

    assert isinstance(error, UsageError) and told in str(error)
    assert worker.requests("/v1/messages") == []


@pytest.mark.parametrize("state", ["waiting", "asked", "running", "ok", "error", "declined", "not run", "interrupted"])
def test_what_a_hostile_model_or_tool_writes_is_text(state: Any) -> None:
    step = Step(1, note=HOSTILE, footer=HOSTILE)
    step.answer.add_data({"type": "content_block_start", "index": 0, "content_block": block(0)})
    step.answer.add_data({"type": "content_block_start", "index": 1, "content_block": block(1)})
    delta = {"type": "input_json_delta", "partial_json": HOSTILE}
    step.answer.add_data({"type": "content_block_delta", "index": 1, "delta": delta})
    step.calls = [Call("t0", HOSTILE, {HOSTILE: HOSTILE}, state, HOSTILE, seconds=1.0, traceback=HOSTILE)]
    shown = view.bundle([step])

    check_html(shown["text/html"])
    assert "\n" not in shown["text/html"] and ACTING.search(shown["text/plain"]) is None


def block(n: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"t{n}", "name": HOSTILE, "input": {HOSTILE: HOSTILE}}


def test_the_example_of_the_docs(shell: Shell, worker: FakeWorker) -> None:
    text = (Path(__file__).parents[2] / "docs/tools.md").read_text(encoding="utf-8")
    worker.next_answers = [calling(("get_weather", {"city": "Paris"})), text_answer("18 degrees.")]
    frame = shell.run(text.split("```python\n")[1].split("```")[0])

    assert frame.result.to_list() == ['{"city": "Paris", "degrees": 18, "unit": "C"}']
    properties = worker.requests("/v1/messages")[0].body["tools"][0]["input_schema"]["properties"]
    assert properties["city"]["description"] == "the city's name"
