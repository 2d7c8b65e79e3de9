"""`nbllama render`, `parse` and `format`: for scripts, and without any model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbllama.cli.main import main
from tests.chat.conftest import QWEN_LIKE, SHARED
from tests.chat.reference import differences, load
from tests.chat.test_reference_cases import documented_differences

ROOT = Path(__file__).parents[2]
TOOLS = [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "é"}}\n</tool_call>'
REQUEST = {"messages": [{"role": "user", "content": "Hello"}], "tools": TOOLS}


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "template.jinja"
    path.write_text(QWEN_LIKE)
    return str(path)


class Run:
    """Runs a command with a text on standard input: (exit code, output, errors)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        self._monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        code = main(arguments)
        sys.stdout.flush()
        written = sys.stdout.buffer
        assert isinstance(written, io.BytesIO)
        return code, written.getvalue().decode(), self._capsys.readouterr().err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(monkeypatch, capsys)


def test_render_prints_the_exact_prompt(run: Run, template: str, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps(REQUEST))
    code, out, _ = run("render", "--template", template, str(request))
    assert code == 0 and "<tools>" in out and out.endswith("assistant\n<think>\n\n</think>\n\n")
    assert run("render", "--template", template, stdin=json.dumps(REQUEST))[1] == out


def test_render_by_the_line_goes_on_after_what_is_refused(run: Run, template: str) -> None:
    lines = [
        {"template": template, "request": REQUEST},
        {"template": template, "request": {"messages": []}},
        {"template": "/nowhere.jinja", "request": REQUEST},
        {"request": REQUEST},
        {"template": template, "request": REQUEST | {"thinking": {"type": "enabled", "budget_tokens": 1024}}},
    ]
    stdin = "\n".join(map(json.dumps, lines)) + "\nno json\n"
    code, out, _ = run("render", "--jsonl", stdin=stdin)
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [list(result) for result in results] == [
        ["prompt"], ["error"], ["error"], ["error"], ["prompt"], ["error"],
    ]  # fmt: skip
    assert "messages" in results[1]["error"] and "/nowhere.jinja" in results[2]["error"]
    assert "template" in results[3]["error"] and results[4]["prompt"].endswith("assistant\n")


def test_parse_prints_message_and_events(run: Run, template: str, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS))
    text = f"<think>\nhm\n</think>\n\nHi {CALL}{CALL}"
    code, out, _ = run("parse", "--template", template, "--tools", str(tools), stdin=text)
    result = json.loads(out)
    assert code == 0 and kinds(result) == ["thinking", "text", "tool_use", "tool_use"]
    assert result["content"][2]["input"] == {"a": "é"}
    starts = [event for event in result["events"] if event["type"] == "content_block_start"]
    assert [event["content_block"]["type"] for event in starts] == kinds(result)
    one = json.loads(run("parse", "--template", template, "--tools", str(tools), "--no-parallel", stdin=text)[1])
    assert kinds(one) == ["thinking", "text", "tool_use"]
    off = json.loads(run("parse", "--template", template, "--thinking", "off", stdin=text)[1])
    assert kinds(off) == ["text"] and off["content"][0]["text"].startswith("<think>\nhm")


def test_parse_begins_where_the_prompt_ends(run: Run, template: str) -> None:
    tail = "<|im_start|>assistant\n<think>\n"
    for given in (tail, "<think>\n"):
        out = run("parse", "--template", template, "--prompt-tail", given, stdin="hm</think>Hi")[1]
        assert kinds(json.loads(out)) == ["thinking", "text"]


def test_parse_counts_what_the_prompt_says_of_the_answer(run: Run, template: str) -> None:
    for tail, thinking in (("Hello, ", ""), ("<think>\nI'm", "I'm thinking")):
        stdin = "world" if not thinking else " thinking\n</think>\n\nHello, world"
        out = run("parse", "--template", template, "--prompt-tail", f"<|im_start|>assistant\n{tail}", stdin=stdin)[1]
        content = json.loads(out)["content"]
        assert content[-1]["text"] == "Hello, world"
        assert "".join(block["thinking"] for block in content[:-1]).strip() == thinking


@pytest.mark.skipif(not load("cases"), reason=f"no reference cases in {SHARED}: set NBLLAMA_SHARED")
def test_parse_reads_llama_cpps_cases_by_the_line(run: Run) -> None:
    """As a script would: the whole prompt of the answer as its tail. All but the documented ones."""
    lines = [json.dumps(line_of(case)) for case in load("cases")]
    _, out, _ = run("parse", "--jsonl", stdin="\n".join(lines))
    wrong = {
        case["id"]
        for case, line in zip(load("cases"), out.splitlines(), strict=True)
        if differences(case, as_message(json.loads(line)["content"]))
    }
    assert wrong <= documented_differences()


def line_of(case: dict[str, Any]) -> dict[str, Any]:
    options = case["options"]
    called = options.get("tool_choice") != "none" and not options.get("json_schema")
    functions = [tool["function"] for tool in case["tools"] if called]
    return {
        "template": str(SHARED / "templates" / Path(case["template_file"]).name),
        "tools": [{"name": one["name"], "input_schema": one.get("parameters") or {}} for one in functions],
        "prompt_tail": case["generation_prompt"],
        "thinking": options.get("reasoning_format") != "none",
        "text": case["raw_output"],
    }


def as_message(content: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks of the wire in the shape of the cases."""
    calls = [block for block in content if block["type"] == "tool_use"]
    return {
        "content": "".join(block["text"] for block in content if block["type"] == "text"),
        "reasoning_content": "".join(block["thinking"] for block in content if block["type"] == "thinking"),
        "tool_calls": [
            {"name": call["name"], "arguments": json.dumps(call["input"]), "id": call["id"]} for call in calls
        ],
    }


def test_parse_by_the_line(run: Run, template: str) -> None:
    case: dict[str, Any] = {"template": template, "tools": TOOLS, "prompt_tail": "", "thinking": True, "parallel": True}
    lines = [case | {"text": CALL}, case | {"text": CALL[:-25]}, case | {"text": 3}, case | {"tools": [1], "text": ""}]
    _, out, _ = run("parse", "--jsonl", stdin="\n".join(map(json.dumps, lines)))
    results = [json.loads(line) for line in out.splitlines()]
    assert kinds(results[0]) == ["tool_use"] and isinstance(results[1]["content"][0]["input"], dict)
    assert "text" in results[2]["error"] and "tools" in results[3]["error"]


def test_parse_explains_itself(run: Run, template: str) -> None:
    out = run("parse", "--template", template, "--explain", stdin="a <tool_call> b")[1]
    steps = json.loads(out)["steps"]
    assert "".join(step["text"] for step in steps) == "a <tool_call> b"


def test_format_tells_what_it_is_and_what_is_read_back(run: Run, template: str, tmp_path: Path) -> None:
    code, out, _ = run("format", template, "--json")
    told = json.loads(out)
    assert code == 0 and told["family"] == "json" and told["source"] == "derived" and all(told["checks"].values())
    given = tmp_path / "mine.json"
    given.write_text(json.dumps(told["format"] | {"think": {"open": "<a>", "close": "</a>"}}))
    text = run("format", template, "--format", str(given))[1]
    assert "json (given)" in text and "NOT READ BACK    thinking and text" in text


def test_mistakes_are_told_in_a_line(run: Run, template: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for arguments, words in (
        (("format",), "FILE"),
        (("parse",), "--template"),
        (("format", "/nowhere"), "/nowhere"),
        (("format", template, "--format", str(broken)), "broken.json is no JSON"),
        (("parse", "--template", template, "--tools", str(broken)), "broken.json is no JSON"),
    ):
        code, _, err = run(*arguments)
        assert code == 1 and words in err and err.count("\n") == 1


def test_none_of_it_needs_llama_cpp(template: str) -> None:
    block = (
        "import sys\nfor name in ('llama_cpp', 'tornado', 'jupyter_server', 'llguidance'): sys.modules[name] = None\n"
    )
    code = f"{block}from nbllama.cli.main import main\nsys.exit(main(['parse', '--template', {template!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=CALL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert kinds(json.loads(done.stdout)) == ["text"]


def test_a_models_own_template(run: Run) -> None:
    told = json.loads(run("format", "--model", "demo", "--json")[1])
    assert told["family"] == "json" and all(passed is not False for passed in told["checks"].values())


def kinds(result: dict[str, Any]) -> list[str]:
    return [block["type"] for block in result["content"]]
