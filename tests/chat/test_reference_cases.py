"""Other people's cases: what llama.cpp's tests demand, what templates render, what models get wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nbllama.chat.tail import answer_begun
from nbllama.wire.requests import parse_messages_request
from tests.chat.conftest import SHARED
from tests.chat.reference import differences, load, outcomes, template_of

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
MISSING = pytest.mark.skip(f"no reference cases in {SHARED}: set NBLLAMA_SHARED")
# What the templates themselves write as thinking in the history of an answer that had none.
HISTORY_DIFFERS = {
    "rt:NVIDIA-Nemotron-Nano-v2:content_call:thinking-on",
    "rt:NVIDIA-Nemotron-Nano-v2:content:thinking-off",
    "rt:openai-gpt-oss-120b:content_call:thinking-on",
    "rt:openai-gpt-oss-120b:content_call:thinking-off",
}


def cases(name: str, key: str = "id") -> list[Any]:
    return [pytest.param(case, id=case[key]) for case in load(name)] or [pytest.param(None, marks=MISSING)]


def documented_differences() -> set[str]:
    """The ids in the table of docs/formats.md."""
    return set(re.findall(r"^\| `([^`]+:\d+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("case", cases("cases"))
@pytest.mark.parametrize(("bos", "eos"), [("<s>", "</s>"), ("", "")], ids=["with tokens", "without"])
def test_llama_cpps_cases(case: dict[str, Any], bos: str, eos: str) -> None:
    results = outcomes(case, template_of(case["template_file"], bos, eos))
    assert all(result == results[0] for result in results)
    assert (differences(case, results[0]) == []) == (case["id"] not in documented_differences()), results[0]


def test_few_differences_are_documented() -> None:
    assert len(documented_differences()) <= 8


@pytest.mark.parametrize("case", cases("roundtrip_cases"))
def test_what_a_template_renders_is_read_back(case: dict[str, Any]) -> None:
    results = outcomes(case, template_of(case["template_file"]))
    assert all(result == results[0] for result in results)
    assert (differences(case, results[0]) == []) == (case["id"] not in HISTORY_DIFFERS), results[0]


@pytest.mark.parametrize("case", cases("malformed_cases", "label"))
def test_what_models_get_wrong(case: dict[str, Any]) -> None:
    results = outcomes(case, template_of(case["template_file"]))
    assert all(result == results[0] for result in results)
    assert differences(case, results[0]) == []


def prompts() -> list[Any]:
    """Those that do not go on with an answer, which the API words otherwise."""
    known = [case for case in load("generation_prompt_cases") if not case["options"].get("continue_final_message")]
    return [pytest.param(case, id=case["id"]) for case in known] or [pytest.param(None, marks=MISSING)]


@pytest.mark.parametrize("case", prompts())
def test_prompts_are_llama_cpps(case: dict[str, Any]) -> None:
    """But for the date of the day, which gpt-oss is told."""
    system = [message["content"] for message in case["messages"] if message["role"] == "system"]
    body: dict[str, Any] = {"model": "m", "max_tokens": 10_000, "system": "".join(system)}
    body["messages"] = [message for message in case["messages"] if message["role"] != "system"]
    if case["options"].get("enable_thinking"):
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    template = template_of(case["template_file"], "", "")
    prompt = template.render(parse_messages_request(json.dumps(body).encode()))
    date = re.compile(r"Current date: [\d-]+")
    assert date.sub("", prompt.text) == date.sub("", case["prompt"])
    assert prompt.text.endswith(case["expected_generation_prompt"])
    begun = answer_begun(template.format, case["expected_generation_prompt"], first=True)
    assert prompt.tail.strip() == begun.strip()
