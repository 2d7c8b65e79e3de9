"""The evaluation prompts are complete, and what they accept can be said with the tools that they offer."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

FOLDER = Path(__file__).parents[2] / "demo_model" / "evaluation"

# File → how many entries, the keys that each must have, the keys that it may have.
SHAPES: dict[str, tuple[int, set[str], set[str]]] = {
    "everyday": (80, {"tools", "user", "accepted"}, set()),
    "which_of_four": (40, {"tools", "user", "name"}, set()),
    "none_fits": (40, {"tools", "user"}, set()),
    "results": (24, {"tools", "user", "call", "result", "facts"}, {"is_error"}),
    "two_calls": (16, {"tools", "user", "accepted"}, set()),
    "structured": (24, {"user", "schema", "accepted"}, set()),
    "thinking": (20, {"user", "fits"}, {"tools"}),
    "chat": (40, {"user"}, {"facts", "check"}),
}


def entries(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def numbered(*names: str) -> list[Any]:
    return [pytest.param(e, id=f"{name}-{i}") for name in names for i, e in enumerate(entries(name))]


def calls(entry: dict[str, Any]) -> list[dict[str, Any]]:
    accepted = [call for item in entry.get("accepted", []) for call in (item if isinstance(item, list) else [item])]
    return accepted + ([entry["call"]] if "call" in entry else [])


def says(text: str, words: list[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


def test_every_file_has_a_shape() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_counts_and_keys(name: str) -> None:
    count, needed, allowed = SHAPES[name]
    assert len(entries(name)) == count
    for entry in entries(name):
        assert needed <= set(entry) <= needed | allowed
        assert entry["user"] == entry["user"].strip() != ""


def test_no_prompt_comes_twice() -> None:
    prompts = Counter(entry["user"] for name in SHAPES for entry in entries(name))
    assert [prompt for prompt, times in prompts.items() if times > 1] == []


def test_a_name_means_the_same_tool_everywhere() -> None:
    tools = [tool for name in SHAPES for entry in entries(name) for tool in entry.get("tools", [])]
    one_each = {tool["name"]: tool for tool in tools}
    assert [tool for tool in tools if tool != one_each[tool["name"]]] == []


def test_how_many_tools_are_offered() -> None:
    assert Counter(len(entry["tools"]) for entry in entries("everyday")) == {1: 25, 2: 25, 3: 15, 4: 15}
    assert {len(entry["tools"]) for entry in entries("which_of_four")} == {4}
    assert {len(entry["tools"]) for entry in entries("none_fits")} == {2, 3, 4}


def test_the_place_among_the_tools_says_nothing() -> None:
    places = Counter(
        [tool["name"] for tool in entry["tools"]].index(entry["name"]) for entry in entries("which_of_four")
    )
    assert places == {0: 10, 1: 10, 2: 10, 3: 10}


@pytest.mark.parametrize("entry", numbered("everyday", "which_of_four", "none_fits", "results", "two_calls"))
def test_tools_are_anthropic_tools(entry: dict[str, Any]) -> None:
    for tool in entry["tools"]:
        assert set(tool) == {"name", "description", "input_schema"}
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"])
        assert set(tool["input_schema"].get("required", [])) <= set(tool["input_schema"]["properties"])
        jsonschema.Draft202012Validator.check_schema(tool["input_schema"])
    assert len({tool["name"] for tool in entry["tools"]}) == len(entry["tools"])


@pytest.mark.parametrize("entry", numbered("everyday", "two_calls", "results"))
def test_calls_fit_the_tools_offered(entry: dict[str, Any]) -> None:
    schemas = {tool["name"]: tool["input_schema"] for tool in entry["tools"]}
    assert calls(entry)
    for call in calls(entry):
        assert set(call) == {"name", "input"}
        jsonschema.validate(call["input"], {**schemas[call["name"]], "additionalProperties": False})


def test_one_tool_is_accepted_two_calls_are_pairs() -> None:
    assert all(len({call["name"] for call in entry["accepted"]}) == 1 for entry in entries("everyday"))
    assert all(len(pair) == 2 for entry in entries("two_calls") for pair in entry["accepted"])


@pytest.mark.parametrize("entry", numbered("structured"))
def test_objects_fit_their_schema(entry: dict[str, Any]) -> None:
    schema = entry["schema"]
    assert set(schema["required"]) == set(schema["properties"]) and schema["additionalProperties"] is False
    assert 2 <= len(schema["properties"]) <= 4
    for value in entry["accepted"]:
        jsonschema.validate(value, schema)


@pytest.mark.parametrize("entry", numbered("results", "thinking", "chat"))
def test_facts_are_lists_of_strings(entry: dict[str, Any]) -> None:
    for alternatives in entry.get("facts", []) + entry.get("fits", []):
        assert alternatives and all(isinstance(word, str) and word for word in alternatives)


@pytest.mark.parametrize("entry", numbered("results"))
def test_the_prompt_alone_does_not_have_the_facts(entry: dict[str, Any]) -> None:
    assert not any(says(entry["user"], alternatives) for alternatives in entry["facts"])


def test_four_results_are_errors() -> None:
    assert [entry["is_error"] for entry in entries("results") if "is_error" in entry] == [True] * 4


@pytest.mark.parametrize("entry", [param for param in numbered("chat") if "check" in param.values[0]])
def test_checks_assert_on_a_function_that_the_prompt_names(entry: dict[str, Any]) -> None:
    tree = ast.parse(entry["check"])
    assert all(isinstance(statement, ast.Assert) for statement in tree.body)
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"abs"}
    assert len(named) == 1 and says(entry["user"], list(named))


def test_eight_chats_have_a_check() -> None:
    assert sum("check" in entry for entry in entries("chat")) == 8
