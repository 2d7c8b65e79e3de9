"""A model that draws at random, held to a format and tools: the same format's parser reads exactly the call."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest

from nbllama.answer.model_sources import resolve
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.rules import ControlIds
from nbllama.chat.enforcing.tools_grammar import UNCONSTRAINED, tools_grammar
from nbllama.chat.enforcing.tools_guide import Wish, tools_guide
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.format import Format
from nbllama.chat.grammar import GrammarGuide, Grammars
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import TextDelta, ThinkDelta, ToolArgsDelta, ToolStart
from nbllama.chat.schema import prepared
from nbllama.engine.llama_vocabulary import LlamaVocabulary
from tests.chat.conftest import NO_TEMPLATES, SHARED, TEMPLATES
from tests.chat.formats import FORMATS
from tests.chat.reference import template_of
from tests.chat.test_grammar import Sized, generate, vocabulary

QWEN_2 = SHARED / "vocab" / "ggml-vocab-qwen2.gguf"

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "days": {"type": "integer"},
            "city": {"type": "string", "maxLength": 30},
            "unit": {"enum": ["c", "f"]},
            "precise": {"type": ["boolean", "null"]},
        },
        "required": ["city", "unit"],
    },
    "get_weather_later": {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 9}},
            "place": {"$ref": "#/$defs/place"},
        },
        "required": ["place"],
        "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    },
    "now": {"type": "object", "properties": {}},
}
PREPARED = {name: prepared(schema, name) for name, schema in SCHEMAS.items()}
LOOK = {
    "look": {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}, "required": ["q"]}
}


@pytest.fixture(scope="module")
def demo() -> LlamaVocabulary:
    return vocabulary(str(resolve("demo").path))


@pytest.fixture(scope="module")
def grammars(demo: LlamaVocabulary) -> Grammars:
    return Grammars(demo, demo.n_tokens)


@pytest.fixture(scope="module")
def qwen() -> LlamaVocabulary:
    if not QWEN_2.exists():
        pytest.skip(f"no vocabularies in {SHARED}: set NBLLAMA_SHARED")
    return vocabulary(str(QWEN_2))


@pytest.fixture(scope="module")
def qwen_grammars(qwen: LlamaVocabulary) -> Grammars:
    return Grammars(qwen, qwen.n_tokens)


def read(format: Format, text: str, tail: str = "") -> tuple[list[tuple[str, Any]], str, str]:
    """(calls, text, thinking) as the format's parser reads them."""
    parser = StreamParser(format, tail, SCHEMAS | LOOK)
    pieces = parser.feed(text) + parser.finish()
    arguments: dict[int, str] = {}
    for piece in pieces:
        if isinstance(piece, ToolArgsDelta):
            arguments[piece.index] = arguments.get(piece.index, "") + piece.json
    calls = [(piece.name, json.loads(arguments[piece.index])) for piece in pieces if isinstance(piece, ToolStart)]
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)).strip()
    return calls, said, "".join(piece.text for piece in pieces if isinstance(piece, ThinkDelta))


def check_forced(format: Format, names: list[str], grammars: Grammars, tokens: LlamaVocabulary, seed: int) -> None:
    choice = Choice({name: PREPARED[name] for name in names}, forced=True, one=True)
    plan = tools_grammar(format, choice, "none", "", grammars.control)
    assert plan.lark is not None and not plan.notes
    guide = grammars.guide(plan.lark)
    text = generate(guide, tokens, seed)
    # An answer that begins as thinking has ended it.
    tail = format.think.close if format.think and not format.think.open else ""
    ((name, arguments),), said, thoughts = read(format, text, tail)
    assert name in names and not said and not thoughts, text
    jsonschema.validate(arguments, SCHEMAS[name])
    assert guide.stop == "grammar_end"


@pytest.mark.parametrize("names", [["get_weather"], ["get_weather_later"], ["now"], list(SCHEMAS)], ids="-".join)
@pytest.mark.parametrize("family", FORMATS)
def test_a_forced_call_is_right_whatever_is_drawn(
    family: str, names: list[str], demo: LlamaVocabulary, grammars: Grammars
) -> None:
    for seed in range(2):
        check_forced(FORMATS[family], names, grammars, demo, seed)


@pytest.mark.parametrize("path", TEMPLATES or [NO_TEMPLATES], ids=lambda path: path.stem if path else "none")
def test_every_template_on_a_real_vocabulary(path: Any, qwen: LlamaVocabulary, qwen_grammars: Grammars) -> None:
    format = template_of(path.name).format
    check_forced(format, list(SCHEMAS), qwen_grammars, qwen, 1)


def follows(guide: GrammarGuide, tokens: Sized, text: str) -> str:
    """How much of `text` the guide takes."""
    taken = b""
    for id in tokens.tokenize(text, parse_control=True):
        row = np.zeros(tokens.n_tokens, dtype=np.float32)
        guide.mask(row)
        if row[id] == -np.inf:
            break
        guide.accept([id])
        taken += tokens.piece(id)
    return taken.decode(errors="replace")


def auto(format: Format, grammars: Grammars, **fields: Any) -> GrammarGuide:
    choice = Choice({name: prepared(schema, name) for name, schema in LOOK.items()}, **fields)
    plan = tools_grammar(format, choice, "none", "", grammars.control)
    assert plan.lark is not None
    return grammars.guide(plan.lark)


GOOD = 'Well, {"a": 1}.\n<tool_call>\n{"name": "look", "arguments": {"q": "x", "n": 2}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("No call, but a < b and <tool and {}.", None),
        (GOOD, None),
        (f"{GOOD}\nAnd again.\n{GOOD} Done.", None),
        (GOOD.replace("look", "loot"), "look"),
        (GOOD.replace("2", '"two"'), '"n": '),
        (GOOD.replace('"q": "x", ', ""), '{"'),
    ],
)
def test_auto_is_free_up_to_the_marker(text: str, taken: str | None, demo: LlamaVocabulary, grammars: Grammars) -> None:
    said = follows(auto(Format(), grammars), demo, text)
    if taken is None:
        assert said == text
    else:
        assert len(said) < len(text) and "<tool_call>" in said


def test_one_call_is_the_end(demo: LlamaVocabulary, grammars: Grammars) -> None:
    guide = auto(Format(), grammars, one=True)
    assert follows(guide, demo, f"{GOOD}\n{GOOD}") == GOOD and guide.stop == "grammar_end"
    assert follows(auto(Format(), grammars), demo, f"{GOOD}\n{GOOD}") == f"{GOOD}\n{GOOD}"


def test_thinking_before_a_forced_call(demo: LlamaVocabulary, grammars: Grammars) -> None:
    choice = Choice({name: prepared(schema, name) for name, schema in LOOK.items()}, forced=True, one=True)
    call = GOOD.partition("\n")[2]
    for thinking, text in (
        ("possible", f"<think>\nA <tool_call>?\n</think>\n\n{call}"),
        ("open", f"A <tool_call>?\n</think>\n\n{call}"),
        ("possible", call),
    ):
        plan = tools_grammar(Format(), choice, thinking, "", grammars.control)  # type: ignore[arg-type]
        assert plan.lark is not None
        assert follows(grammars.guide(plan.lark), demo, text) == text
        assert follows(grammars.guide(plan.lark), demo, "Hello") == ("Hello" if thinking == "open" else "")


def test_a_value_or_a_call(demo: LlamaVocabulary, grammars: Grammars) -> None:
    wish = Wish(LOOK, answer_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    for text, good in (('{"a": 1}', True), (GOOD.partition("\n")[2], True), ("Hello", False), ('{"b": 1}', False)):
        guide, _ = tools_guide(grammars, Format(), wish, "none", "")
        assert guide is not None
        assert (follows(guide, demo, text) == text) == good  # type: ignore[arg-type]


def test_a_format_without_calls_is_free_and_says_so() -> None:
    plan = tools_grammar(Format(calls=None), Choice(PREPARED), "none", "", ControlIds())
    assert (plan.lark, plan.notes) == (None, [UNCONSTRAINED])


BAD = {"type": "object", "properties": {"a": {"type": "integer", "if": {}}}, "required": ["a"]}


def test_a_schema_that_cannot_be_followed_costs_only_its_own_tool(demo: LlamaVocabulary, grammars: Grammars) -> None:
    guide, notes = tools_guide(grammars, Format(), Wish({"bad": BAD, **LOOK}), "none", "")
    assert len(notes) == 1 and notes[0].startswith("tools.0.custom.input_schema: ") and '"if"' in notes[0]
    assert follows(guide, demo, GOOD.replace("2", '"two"')) != GOOD  # type: ignore[arg-type]
    guide, _ = tools_guide(grammars, Format(), Wish({"bad": BAD, **LOOK}), "none", "")
    call = '<tool_call>\n{"name": "bad", "arguments": {"a": ["x"]}}\n</tool_call>'
    assert follows(guide, demo, call) == call  # type: ignore[arg-type]


def test_a_strict_one_is_refused_by_name(grammars: Grammars) -> None:
    with pytest.raises(SchemaRefused, match=r"tools\.1\.custom\.input_schema.*\"if\""):
        tools_guide(grammars, Format(), Wish({**LOOK, "bad": BAD}, strict={"bad"}), "none", "")


def test_json_is_spaced_as_the_template_spaces_it(demo: LlamaVocabulary, grammars: Grammars) -> None:
    calls = Format().calls
    assert calls is not None
    call = GOOD.partition("\n")[2]
    compact = call.replace('": ', '":').replace(', "', ',"')
    for format, fits, not_so in (
        (Format(), call, compact),
        (Format(calls=replace(calls, compact=True)), compact, call),
    ):
        assert follows(auto(format, grammars), demo, fits) == fits
        assert follows(auto(format, grammars), demo, not_so) != not_so


@pytest.mark.parametrize("n_tools", [1, 3])
def test_most_of_a_calls_structure_is_forced(n_tools: int, qwen: LlamaVocabulary, qwen_grammars: Grammars) -> None:
    tools = {f"{name}_{index}": prepared(LOOK["look"], name) for index in range(n_tools) for name in LOOK}
    plan = tools_grammar(Format(), Choice(tools, forced=True, one=True), "none", "", qwen_grammars.control)
    assert plan.lark is not None
    guide = qwen_grammars.guide(plan.lark)
    # Which of several tools it is, is no structure.
    name = ['<tool_call>\n{"name": "look_', "0", '", '] if n_tools > 1 else ['<tool_call>\n{"name": "look_0", ']
    parts = [*name[:-1], name[-1] + '"arguments": {"q": "', "Paris in spring", '", "n": ', "12", "}}\n</tool_call>"]
    assert forced_share(guide, qwen, parts) >= 0.85


def forced_share(guide: GrammarGuide, tokens: LlamaVocabulary, parts: list[str]) -> float:
    """Of the tokens of a text whose odd parts are values, the part that is forced among all that are no values."""
    data = "".join(parts).encode()
    ends = np.cumsum([len(part.encode()) for part in parts])
    place, forced, chosen = 0, 0, 0
    while place < len(data) and guide.stop is None:
        ids = list(guide.forced())
        structural = np.searchsorted(ends, place, side="right") % 2 == 0
        if ids:
            forced += len(ids)
        else:
            ids = tokens.tokenize(data[place:].decode(), parse_control=False)[:1]
            chosen += bool(structural)
        guide.accept(ids)
        said = b"".join(map(tokens.piece, ids))
        assert data.startswith(said, place)
        place += len(said)
    return forced / (forced + chosen)


def test_a_hundred_kilobytes_of_schemas_compile(grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "string", "description": "d" * 60} for i in range(40)}}
    tools = {f"tool_{index}": schema for index in range(30)}
    assert len(json.dumps(tools)) > 100_000
    guide, notes = tools_guide(grammars, Format(), Wish(tools), "none", "")
    assert guide is not None and notes == []


def test_a_bomb_is_refused_or_loosened_and_never_followed(grammars: Grammars) -> None:
    bomb: Any = {"type": "string"}
    for _ in range(200):
        bomb = {"type": "object", "properties": {"a": bomb}}
    _, notes = tools_guide(grammars, Format(), Wish({"bomb": bomb}), "none", "")
    assert "nested more than" in notes[0]
    with pytest.raises(SchemaRefused, match="nested more than"):
        tools_guide(grammars, Format(), Wish({"bomb": bomb}, strict={"bomb"}), "none", "")


CYCLE = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}}]}},
}
FOREST = {"type": "object", "properties": {name: {"$ref": "#/$defs/n"} for name in "abcdef"}}
FOREST = {**FOREST, "$defs": {"n": FOREST}}
NO_SCHEMAS = {"enum": 5}, {"type": "string", "minLength": "x"}, {"type": "array", "minItems": "x"}, {"type": {"a": 1}}


@pytest.mark.parametrize("family", FORMATS)
def test_schemas_without_end_and_without_sense_cost_their_tool_alone(family: str, grammars: Grammars) -> None:
    odd = [{"type": "object", "properties": {"a": schema}} for schema in NO_SCHEMAS]
    for schema in (CYCLE, FOREST, *odd):
        guide, _ = tools_guide(grammars, FORMATS[family], Wish({"bad": schema, **LOOK}, forced=True), "none", "")
        assert guide is not None and guide.stop is None
