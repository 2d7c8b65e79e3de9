"""Tools in a real kernel with a real worker: interrupts, async cells, prints, questions, the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.real_kernel import Kernel, real_kernel, requests, shows, wait_until

# Event loops that jupyter_client does not close.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


SCRIPT = {
    "max_sequences": 1,
    "rules": [
        {"when": "tool_response", "answer": "It is done."},
        {"when": "both", "answer": f"{call('say', word='loud')}\n{call('nap', seconds=0)}"},
        {"when": "nap", "answer": f"{call('nap', seconds=60)}\n{call('say', word='late')}"},
        {"when": "sleep", "answer": call("sleep", seconds=60)},
        {"when": "long", "answer": call("say", word="word " * 400), "delay_s": 0.02},
    ],
    "default": "no",
}
TOOLS = """
ran, cancelled = [], []
def say(word: str) -> str:
    "Says it."
    ran.append(word); print("said", word, flush=True)
    return word
def sleep(seconds: float) -> str:
    print("falling asleep", flush=True); time.sleep(seconds)
    return "awake"
async def nap(seconds: float) -> str:
    print("napping", flush=True)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        cancelled.append(1); raise
    return "rested"
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with real_kernel(SCRIPT) as started:
        assert started.run(TOOLS)["status"] == "ok"
        yield started


def test_what_tools_print_is_the_cells(kernel: Kernel) -> None:
    reply = kernel.run(AWAIT + "run = nbllama.run_tools('both', [say, nap])\nrun")

    assert reply["status"] == "ok", kernel.traceback
    assert kernel.printed == "said loud\nnapping\n"
    assert kernel.shown["text/plain"] == "It is done."
    (result,) = [one for one in kernel.outputs if one["msg_type"] == "execute_result"]
    assert result["content"]["data"] == {"text/plain": "ToolRun(2 steps, 2 calls, 'end_turn')"}
    assert kernel.value("[call.content for call in run.calls]") == ["loud", "rested"]
    kernel.run("run")
    assert "said" not in kernel.printed and "[result: say" in str(kernel.outputs)


AWAIT = "await asyncio.sleep(0)\n"
# What the model is asked, what is on the screen when the interrupt comes, what becomes of the calls, before the run.
WAYS: dict[str, tuple[str, str, list[str], str]] = {
    "in a function": ("sleep", "falling asleep", ["interrupted"], ""),
    "in a function, in a cell with await": ("sleep", "falling asleep", ["interrupted"], AWAIT),
    "in an async function": ("nap", "napping", ["interrupted", "not run"], ""),
    "in the model": ("long", "being written", [], AWAIT),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt(kernel: Kernel, way: str) -> None:
    prompt, seen, states, before = WAYS[way]
    kernel.run("ran.clear(); cancelled.clear()")
    reply = kernel.run(f"{before}nbllama.run_tools({prompt!r}, [say, nap, sleep])", stop_when=shows(seen))

    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert len(kernel.traceback) < 5 and "interrupted" in kernel.shown["text/html"]
    wait_until(lambda: requests() == [])
    kernel.run("import sys; run = sys.last_value.run")
    assert kernel.value("[run.ending, [call.state for call in run.calls], ran]") == ["interrupted", states, []]
    if prompt == "nap":
        wait_until(lambda: bool(kernel.value("cancelled")))
    if states:
        # Every call has its result, so that the conversation can be gone on with.
        kernel.run("more = nbllama.run_tools(run.messages, [say])")
        assert kernel.value("more.text") == "It is done."


def test_a_running_tool_shows_its_time(kernel: Kernel) -> None:
    kernel.run("def short(seconds: float) -> str:\n    time.sleep(1.5)\n    return 'x'")
    kernel.run("import anthropic; nbllama.run_tools('sleep', [anthropic.beta_tool(short, name='sleep')])")

    updates = [one["content"]["data"]["text/html"] for one in kernel.outputs if "update" in one["msg_type"]]
    assert any("▶ running 1 s" in html for html in updates)
    assert any("✓ done 1.5" in html for html in updates)


def test_a_question(kernel: Kernel) -> None:
    asked: list[str] = []

    def answer(message: dict[str, Any]) -> None:
        asked.append(message["content"]["prompt"])
        kernel.client.input("not today")

    reply = kernel.client.execute_interactive(
        "run = nbllama.run_tools('both', [say, nap], confirm=True)", timeout=30, stdin_hook=answer, allow_stdin=True
    )
    assert reply["content"]["status"] == "ok"
    assert asked[0].startswith('Run say {"word": "loud"}? [y]es, [n]o')
    told = "The user declined this call. They said: not today"
    assert kernel.value("[[call.state, call.content] for call in run.calls]") == [["declined", told]] * 2


def test_the_demo_model() -> None:
    with real_kernel(model="demo") as kernel:
        kernel.run(
            "def get_weather(location: str) -> str:\n"
            "    'The current weather in a given location.'\n"
            "    return '18 degrees and sunny'"
        )
        reply = kernel.run("%%llama --tools get_weather --steps 4 -t 0 -o run\nWhat is the weather in Paris?")

        assert reply["status"] == "ok", kernel.traceback
        assert "18 degrees and sunny" in str(kernel.outputs)
        assert kernel.value("[[call.name, call.state] for call in run.calls][:1]") == [["get_weather", "ok"]]
