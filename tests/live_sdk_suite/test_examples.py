"""The SDK's own examples, unchanged but for the environment, against a scripted model behind `nbllama serve`.

$NBLLAMA_SDK is an unpacked source distribution of the SDK, $NBLLAMA_SDK_PYTHON the interpreter that has the SDK,
$NBLLAMA_SDK_NODE_MODULES has an MCP server. Left out are the examples that need a service of Anthropic's or of a cloud,
message threads, batches, or a model that sees.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_process import TOKEN, Door, serving

EXAMPLES = Path(os.environ["NBLLAMA_SDK"], "examples").absolute()
PYTHON = str(Path(os.environ["NBLLAMA_SDK_PYTHON"]).absolute())
# Where npx finds the file server that one example starts.
NODE_MODULES = Path(os.environ["NBLLAMA_SDK_NODE_MODULES"]).absolute()

ORDER = {"product_name": "Green Tea", "price": 5.5, "quantity": 2}
PARSED = "product_name='Green Tea' price=5.5 quantity=2"


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


RULES = [
    {"when": r"\[(DIR|FILE)\]", "answer": "Those are the files."},
    {"when": "Green Tea", "answer": json.dumps(ORDER)},
    {"when": "haiku", "answer": "<think>\nFive, seven, five.\n</think>\n\nA poem of some length."},
    {"when": "73f|Sunny", "answer": "It is mild in SF."},
    {"when": "weather in SF", "answer": call("get_weather", location="SF", units="f")},
    {"when": "Deleted", "answer": "The log is gone."},
    {"when": "app.log", "answer": "One of them ends so.\n" + call("delete_file", path="/tmp/demo/app.log")},
    {"when": "/tmp/demo", "answer": call("list_files", directory="/tmp/demo")},
    {"when": "files in /tmp", "answer": call("list_directory", path="/tmp")},
    {"when": "File created successfully", "answer": "I will remember it."},
    {"when": "I am Ada", "answer": call("memory", command="create", path="/memories/name.md", file_text="Ada")},
]
SEARCHES = [
    {"when": "Sunny", "answer": "It is mild in SF."},
    # What was found is named in the result; the tool itself the model sees beside the others.
    {"when": "get_weather", "answer": call("get_weather", location="SF", units="f")},
    {"when": "weather in SF", "answer": call("search_available_tools", keyword="weather")},
]
HELLO = "Hello from the script."


def script(folder: Path, rules: list[dict[str, str]]) -> str:
    path = folder / "script.json"
    path.write_text(json.dumps({"rules": rules, "default": HELLO, "n_ctx": 65_536}))
    return f"scripted:{path}"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with serving(script(tmp_path_factory.mktemp("script"), RULES)) as door:
        yield door


def run(name: str, door: Door, folder: Path, typed: str = "") -> str:
    """What the example prints. It runs in `folder`, where some leave files."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLUMNS": "200",
        "ANTHROPIC_BASE_URL": door.url,
        "ANTHROPIC_API_KEY": TOKEN,
    }
    command = [PYTHON, str(EXAMPLES / f"{name}.py")]
    ended = subprocess.run(
        command, env=env, cwd=folder, input=typed, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("messages", [HELLO, HELLO]),
        ("messages_stream", [HELLO, "content block finished accumulating", '"stop_reason": "end_turn"']),
        ("structured_outputs", [PARSED]),
        ("structured_outputs_streaming", [f"Final parsed order: {PARSED}"]),
        ("thinking", ["Thinking: Five, seven, five.", "Text: A poem of some length."]),
        ("thinking_stream", ["Five, seven, five.", "Text:\n-----\nA poem of some length."]),
        ("tools", ['"stop_reason": "tool_use"', "It is mild in SF."]),
        # Its tool has a `unit` with a choice of two words: the script's `units` is led to what the schema allows.
        ("tools_stream", ["delta: ", "snapshot: {'location': 'SF', 'unit': 'celsius'}"]),
        ("tools_runner", ["Fetching weather for SF in f", "It is mild in SF."]),
        ("fallbacks", ["server-side: claude-fable", HELLO, "non-streaming: claude-fable"]),
        # Nobody searches here: the tool is left out, named in a header, and the model answers by itself.
        ("web_search", [HELLO, "Usage statistics"]),
        ("web_search_stream", [HELLO, "Content Block 1: Type = text"]),
    ],
)
def test_example(name: str, printed: list[str], door: Door, tmp_path: Path) -> None:
    output = run(name, door, tmp_path)

    for text in printed:
        assert text in output
        output = output.partition(text)[2]


def test_tools_that_wait_for_a_yes(door: Door, tmp_path: Path) -> None:
    output = run("tools_runner_deferred_streaming", door, tmp_path, "y\n")

    assert "delete_file({'path': '/tmp/demo/app.log'})" in output
    assert "The log is gone." in output


def test_a_tool_that_is_found_by_another(tmp_path: Path) -> None:
    with serving(script(tmp_path, SEARCHES)) as door:
        output = run("tools_runner_search_tool", door, tmp_path)
        traces = door.request("/nbllama/traces")["traces"]
        # SDK 2 asks for a thread first, and goes on without one when that is refused.
        answered = [trace["id"] for trace in traces if trace["ending"] != "error"]
        prompts = [door.request(f"/nbllama/traces/{id}")["prompt"] for id in answered]

    assert ["Lookup the weather" in prompt for prompt in prompts] == [True, True, False]
    assert "Fetching weather for SF in f" in output
    assert "It is mild in SF." in output


def test_tools_of_an_mcp_server(door: Door, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    output = run("mcp_tool_runner", door, tmp_path)

    assert "  - list_directory" in output
    assert "Those are the files." in output


def test_the_memory_tool(door: Door, tmp_path: Path) -> None:
    output = run("memory/basic", door, tmp_path, "I am Ada\n/memory_view\n/quit\n")

    assert "I will remember it." in output
    assert "name.md" in output
    assert [path.read_text() for path in tmp_path.rglob("name.md")] == ["Ada"]
