"""The examples of docs/clients.md, each run as it is printed by the client's own library, against a scripted model.

$NBLLAMA_CLIENTS is the folder with the environments that .ci/groups/clients.sh makes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.serve_process import TOKEN, Door, serving

PAGE = Path(__file__).parents[2] / "docs/clients.md"
CLIENTS = Path(os.environ["NBLLAMA_CLIENTS"]).absolute()
HELLO, WEATHER = "Hello there, from a scripted model.", "It is 18 degrees in Paris."
CALL = json.dumps({"name": "get_weather", "arguments": {"city": "Paris"}})
SCRIPT = {
    "n_ctx": 32_768,
    "rules": [
        {"when": "18 degrees", "answer": WEATHER},
        # Not "weather" alone, which the tool's description has too.
        {"when": "the weather in Paris", "answer": f"<tool_call>\n{CALL}\n</tool_call>"},
    ],
    "default": HELLO,
}


@dataclass(frozen=True)
class Client:
    """A section of the page, the environment that runs its example, and the file it is run from."""

    heading: str
    environment: str
    file: str = "example.py"

    @property
    def command(self) -> list[str]:
        programs = {"example.py": str(CLIENTS / self.environment / "bin/python"), "example.mjs": "node"}
        return [programs.get(self.file, "bash"), self.file]


CASES = [
    Client("The Python SDK", "python"),
    Client("The Python SDK", "anthropic-1"),
    Client("The TypeScript SDK", "node", "example.mjs"),
    Client("LiteLLM", "python"),
    Client("LangChain", "python"),
    Client("chatlas", "python"),
    Client("claudette", "claudette"),
]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    script = tmp_path_factory.mktemp("script") / "weather.json"
    script.write_text(json.dumps(SCRIPT))
    with serving(f"scripted:{script}") as door:
        yield door


@pytest.mark.parametrize("client", CASES, ids=lambda client: f"{client.heading}-{client.environment}")
def test_a_streamed_turn_and_a_tool_turn(client: Client, door: Door, tmp_path: Path) -> None:
    before = requests(door)
    printed = run(client, door, tmp_path)

    assert printed.splitlines() == [HELLO, WEATHER]
    result, question, hello = requests(door)[: -len(before) or None]
    assert hello["stream"] is True
    assert [tool["name"] for tool in question["tools"]] == ["get_weather"]
    assert "18 degrees" in json.dumps(result["messages"][-1])
    assert result["messages"][-1]["content"][0]["type"] == "tool_result"


def test_curl(door: Door, tmp_path: Path) -> None:
    printed = run(Client("curl", "", "example.sh"), door, tmp_path)

    names = re.findall(r"^event: (\w+)$", printed, re.MULTILINE)
    assert (names[0], names[-1]) == ("message_start", "message_stop")
    texts = [json.loads(line[6:]).get("delta", {}).get("text", "") for line in printed.splitlines() if "data: " in line]
    assert "".join(texts) == HELLO


def test_each_section_with_an_example_is_run() -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    with_code = {section.splitlines()[0] for section in sections if "```" in section}

    assert with_code == {client.heading for client in CASES} | {"curl"}


def run(client: Client, door: Door, folder: Path) -> str:
    """What the example prints, run in `folder` with nothing but the page's two variables."""
    (folder / client.file).write_text(example_of(client.heading), encoding="utf-8")
    if client.file.endswith(".mjs"):
        (folder / "node_modules").symlink_to(CLIENTS / client.environment / "node_modules")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ANTHROPIC_BASE_URL": door.url,
        "ANTHROPIC_API_KEY": TOKEN,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    ended = subprocess.run(client.command, env=env, cwd=folder, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # LiteLLM prints a coloured hint about model names it has no price for.
    return re.sub(r"\n?\x1b\[.*\x1b\[0m\n\n?", "", ended.stdout)


def example_of(heading: str) -> str:
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    examples: list[str] = re.findall(r"^```\w+\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return examples[0]


def requests(door: Door) -> list[dict[str, Any]]:
    """The bodies that this door's clients sent and that were answered, newest first."""
    traces = door.request("/nbllama/traces")["traces"]
    answered = [trace["id"] for trace in traces if trace["ending"] != "error"]
    return [door.request(f"/nbllama/traces/{id}")["request"] for id in answered]
