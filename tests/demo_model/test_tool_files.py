"""The tool files that the training dialogues are composed from are complete and consistent."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

Tool = dict[str, Any]

DATA = Path(__file__).parents[2] / "demo_model" / "data"
FILES = sorted(DATA.glob("tools_*.yaml"))


def load(path: Path) -> list[Tool]:
    tools: list[Tool] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tools


TOOLS = [pytest.param(tool, id=f"{path.stem}-{tool['tool']}") for path in FILES for tool in load(path)]

WORDS = """
city country address landmark airport person first_name email phone username company day iso_date
time month year message todo note subject event query topic sentence word phrase language currency
amount expression sql shell python path directory filename url hostname ip branch commit version
order_id uuid isbn iban flight_number plate postcode coordinates hex_color ticker song artist book
movie dish ingredient product room hashtag table column regex
"""
KINDS = set(WORDS.split())
SLOT = re.compile(r"<(\w+)(?::([^<>]+))?>")
RANGE = re.compile(r"(int|decimal)\((-?[\d.]+), ?(-?[\d.]+)\)")
NAME = re.compile(r"[A-Za-z][\w.-]{0,63}")


def texts(entries: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(e, {}) if isinstance(e, str) else (e["say"], e.get("set") or {}) for e in entries]


def slots(text: str) -> set[str]:
    return {name for name, _ in SLOT.findall(text)}


def required(tool: Tool) -> set[str]:
    return {key for key, spec in tool["parameters"].items() if spec.get("required")}


def value_fits(spec: dict[str, Any], value: object) -> bool:
    """Whether a constant that a request sets is one that the parameter may have."""
    kind = spec.get("type", "string")
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    if kind == "array":
        return isinstance(value, list)
    allowed = spec.get("enum") or spec.get("map")
    return isinstance(value, str) and (not allowed or value in allowed)


def test_there_are_tool_files() -> None:
    assert FILES


def test_no_two_tools_have_the_same_key() -> None:
    keys = [tool["tool"] for path in FILES for tool in load(path)]
    assert sorted(set(keys)) == sorted(keys)


@pytest.mark.parametrize("tool", TOOLS)
def test_names_and_descriptions(tool: Tool) -> None:
    assert set(tool) == {
        *("tool", "family", "names", "descriptions", "parameters"),
        *("wants", "requests", "incomplete", "results"),
    }
    assert 3 <= len(tool["names"]) <= 6
    assert len(set(tool["names"])) == len(tool["names"])
    assert all(isinstance(name, str) and NAME.fullmatch(name) for name in tool["names"])
    assert 3 <= len(tool["descriptions"]) <= 4
    assert all(isinstance(text, str) for text in tool["descriptions"])


@pytest.mark.parametrize("tool", TOOLS)
def test_parameters(tool: Tool) -> None:
    assert 1 <= len(tool["parameters"]) <= 5
    seen: dict[str, str] = {}
    for key, spec in tool["parameters"].items():
        assert isinstance(key, str), key
        assert not set(spec) - {
            *("names", "kind", "values", "enum", "map", "type", "range", "digits", "say"),
            *("required", "descriptions"),
        }, key
        assert all(isinstance(name, str) and NAME.fullmatch(name) for name in spec["names"]), key
        for name in spec["names"]:
            assert seen.setdefault(name, key) == key, f"{name} names {key} and {seen[name]}"
        assert 1 <= len(spec["descriptions"]) <= 3, key
        assert all(isinstance(text, str) for text in spec["descriptions"]), key
        sources = [source for source in ("kind", "values", "enum", "map") if source in spec]
        kind = spec.get("type", "string")
        if kind == "boolean":
            assert not sources, key
            continue
        if kind in ("integer", "number"):
            if sources:
                assert spec.get("kind", "year") in KINDS, key
                continue
            low, high = spec["range"]
            assert low < high, key
            for said in spec.get("say", {}).values():
                assert said and all(isinstance(way, str) for way in said), key
            assert all(low <= value <= high for value in spec.get("say", {})), key
            continue
        assert kind in ("string", "array"), key
        assert len(sources) == 1, key
        if "kind" in spec:
            assert spec["kind"] in KINDS or RANGE.fullmatch(spec["kind"]), spec["kind"]
        if "values" in spec:
            values = spec["values"]
            assert all(isinstance(value, str) for value in values), key
            assert len(set(values)) == len(values) >= 25, key
            assert all(1 <= len(value.split()) <= 6 for value in values), key
        for source in ("enum", "map"):
            allowed = spec.get(source, [])
            assert all(isinstance(value, str) for value in allowed), key
            if isinstance(allowed, dict):
                for ways in allowed.values():
                    assert ways and all(isinstance(way, str) for way in ways), key


@pytest.mark.parametrize("tool", TOOLS)
def test_requests(tool: Tool) -> None:
    parameters = tool["parameters"]
    requests = texts(tool["requests"])
    assert 14 <= len(requests) <= 22
    assert len({say for say, _ in requests}) == len(requests)
    used: set[str] = set()
    for say, constants in requests:
        assert all(not generator for _, generator in SLOT.findall(say)), say
        assert not re.sub(SLOT, "", say).count("<"), say
        assert slots(say) <= set(parameters), say
        assert not slots(say) & set(constants), say
        assert required(tool) <= slots(say) | set(constants), say
        for name in slots(say):
            assert parameters[name].get("type") != "boolean", say
        for name, value in constants.items():
            assert value_fits(parameters[name], value), say
        used |= slots(say) | set(constants)
    assert used == set(parameters), "no request has it"


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_wanted_and_what_is_missing(tool: Tool) -> None:
    assert slots(tool["wants"]) <= required(tool)
    assert bool(required(tool)) <= len(tool["incomplete"]) <= 2
    for entry in tool["incomplete"]:
        assert set(entry) == {"say", "ask"}
        assert slots(entry["ask"]) <= slots(entry["say"]), entry
        assert slots(entry["say"]) <= set(tool["parameters"]), entry
        assert not required(tool) <= slots(entry["say"]), entry


@pytest.mark.parametrize("tool", TOOLS)
def test_results(tool: Tool) -> None:
    assert 3 <= len(tool["results"]) <= 4
    for entry in tool["results"]:
        assert set(entry) == {"result", "answers"}
        assert 2 <= len(entry["answers"]) <= 3
        known = set(tool["parameters"])
        for text in (entry["result"], *entry["answers"]):
            local = set(known)
            for name, generator in SLOT.findall(text):
                if not generator:
                    assert name in local, text
                    continue
                assert name not in tool["parameters"], f"{name} is a parameter: {text}"
                bounds = RANGE.fullmatch(generator)
                if bounds:
                    assert float(bounds[2]) < float(bounds[3]), generator
                elif generator.startswith("one("):
                    assert generator.endswith(")") and generator.count("|"), generator
                else:
                    assert generator in KINDS, generator
                local.add(name)
            if text is entry["result"]:
                known = local


@pytest.mark.parametrize("tool", TOOLS)
def test_results_that_look_like_json_are_json(tool: Tool) -> None:
    numbers = {
        key
        for key, spec in tool["parameters"].items()
        if spec.get("type", "string") not in ("string", "array") or spec.get("kind") in ("amount", "year")
    }

    def filled(match: re.Match[str]) -> str:
        name, generator = match.groups()
        if generator and not generator.startswith("one("):
            return "1" if generator.startswith(("int", "decimal", "amount")) else "text"
        if generator:
            return str(generator[4:-1].split("|")[0])
        return "1" if name in numbers else "text"

    for entry in tool["results"]:
        if entry["result"][:1] + entry["result"][-1:] in ("{}", "[]"):
            json.loads(re.sub(SLOT, filled, entry["result"]))
