"""A model that draws at random cannot leave a grammar: the demo model's vocabulary, and a large one."""

from __future__ import annotations

import json
from typing import Any, Protocol

import jsonschema  # type: ignore[import-untyped]
import llama_cpp
import numpy as np
import pytest

from nbllama.answer.model_sources import resolve
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.grammar import GrammarGuide, Grammars, Tokens
from nbllama.chat.lark import json_value, literal
from nbllama.chat.schema import MAX_PROPERTIES, prepared
from nbllama.engine import llama_runtime
from nbllama.engine.llama_vocabulary import LlamaVocabulary

SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array"}},
        "required": ["age", "name"],
    },
    "enum without a type": {"type": "object", "properties": {"unit": {"enum": ["celsius", "kelvin", 3, None]}}},
    "references": {
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
        "type": "array",
        "items": {"$ref": "#/$defs/point"},
        "minItems": 1,
        "maxItems": 3,
    },
    "any of": {"anyOf": [{"type": "boolean"}, {"type": "object", "properties": {"a": {"type": "null"}}}]},
    "nested arrays": {"type": "array", "maxItems": 2, "items": {"type": "array", "items": {"type": "boolean"}}},
    "constant": {"const": {"kind": "circle", "r": [1, 2]}},
    "open": {"type": "object", "additionalProperties": {"type": "integer"}},
    "format": {"type": "string", "format": "date"},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}$"},
    "anything": {"foo": "bar"},
}


def vocabulary(path: str) -> LlamaVocabulary:
    llama_runtime.initialise()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    return LlamaVocabulary(llama_cpp.llama_model_get_vocab(model))


@pytest.fixture(scope="module")
def demo() -> LlamaVocabulary:
    return vocabulary(str(resolve("demo").path))


@pytest.fixture(scope="module")
def grammars(demo: LlamaVocabulary) -> Grammars:
    return Grammars(demo, demo.n_tokens)


class Sized(Tokens, Protocol):
    """A vocabulary that knows its size."""

    @property
    def n_tokens(self) -> int: ...


def generate(guide: GrammarGuide, tokens: Sized, seed: int, *, max_tokens: int = 3000) -> str:
    """What a model of random logits writes; it leans towards what ends strings and lists, to come to an end."""
    rng, data = np.random.default_rng(seed), b""
    closing = np.array([tokens.piece(id)[:1] in b'"]},' for id in range(tokens.n_tokens)], dtype=np.float32)
    for _ in range(max_tokens):
        if guide.stop:
            break
        if forced := guide.forced():
            ids = list(forced)
        else:
            row = rng.random(tokens.n_tokens, dtype=np.float32) + 0.7 * closing
            guide.mask(row)
            ids = [int(np.argmax(row))]
            assert row[ids[0]] > -np.inf
            if tokens.is_end_of_generation(ids[0]):
                break
        guide.accept(ids)
        data += b"".join(map(tokens.piece, ids))
    return data.decode(errors="replace")


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_drawn_fits_the_schema(name: str, demo: LlamaVocabulary, grammars: Grammars) -> None:
    schema = prepared(SCHEMAS[name], "schema")
    for seed in range(6):
        text = generate(grammars.guide("start: value\nvalue: " + json_value(schema)), demo, seed)
        jsonschema.validate(json.loads(text), schema)


def test_without_the_mask_the_same_draws_fit_nothing(demo: LlamaVocabulary) -> None:
    """The test above can fail: what the model would write by itself is no JSON."""

    class Free(GrammarGuide):
        def mask(self, row: Any) -> None:
            pass

        def forced(self) -> tuple[()]:
            return ()

        def accept(self, ids: Any) -> None:
            pass

    guide = Grammars(demo, demo.n_tokens).guide("start: value\nvalue: " + json_value({"type": "object"}))
    text = generate(Free(guide._matcher, demo.n_tokens, guide._caps), demo, 1, max_tokens=50)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


@pytest.mark.parametrize(
    ("schema", "at_most"),
    [({"type": "integer"}, 17), ({"type": "integer", "minimum": 3}, 16), ({"type": "number", "minimum": -90}, 27)],
    ids=str,
)
def test_a_model_that_writes_nothing_but_digits_is_stopped(
    schema: dict[str, Any], at_most: int, demo: LlamaVocabulary, grammars: Grammars
) -> None:
    guide = grammars.guide("start: value\nvalue: " + json_value(prepared(schema, "s")))
    digits = np.array([demo.piece(id).strip(b"0123456789") == b"" for id in range(demo.n_tokens)])
    written = b""
    while guide.stop is None:
        row = np.where(digits, np.float32(1), np.float32(0)).astype(np.float32)
        guide.mask(row)
        id = int(np.argmax(row))
        if not digits[id] and row[id] == 0 and demo.piece(id) != b".":
            break
        guide.accept([id])
        written += demo.piece(id)
        assert len(written) <= at_most
    jsonschema.validate(json.loads(written), schema)


def test_a_rollback_is_as_if_nothing_had_been(demo: LlamaVocabulary, grammars: Grammars) -> None:
    guide = grammars.guide("start: value\nvalue: " + json_value(prepared(SCHEMAS["object"], "s")))
    start = demo.tokenize('{"name": "', parse_control=False)
    guide.accept(start)
    before = np.zeros(demo.n_tokens, dtype=np.float32)
    guide.mask(before)
    tokens = demo.tokenize('Ada", "age"', parse_control=False)
    guide.accept(tokens)
    guide.rollback(len(tokens))
    after = np.zeros(demo.n_tokens, dtype=np.float32)
    guide.mask(after)
    assert np.array_equal(before, after) and guide.stop is None


def test_guides_of_one_grammar_do_not_share_a_state(demo: LlamaVocabulary, grammars: Grammars) -> None:
    lark = "start: " + literal("ab") + "\n"
    first, second = grammars.guide(lark), grammars.guide(lark)
    first.accept(demo.tokenize("ab", parse_control=False))
    assert (first.stop, second.stop) == ("grammar_end", None)


def test_a_token_that_does_not_fit_is_an_error_and_no_exception(demo: LlamaVocabulary, grammars: Grammars) -> None:
    guide = grammars.guide("start: " + literal("ab"))
    guide.accept(demo.tokenize("xyz", parse_control=False))
    assert guide.stop == "grammar_error"


def test_a_control_token_is_not_its_text(demo: LlamaVocabulary, grammars: Grammars) -> None:
    spelling, id = next(iter(demo.control_tokens().items()))
    as_text, as_token = grammars.guide("start: " + literal(spelling)), grammars.guide(f"start: <[{id}]>")
    row = np.zeros(demo.n_tokens, dtype=np.float32)
    as_text.mask(row)
    assert row[id] == -np.inf
    row[:] = 0
    as_token.mask(row)
    assert list(np.flatnonzero(row == 0)) == [id]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "if": {}, "then": {}}, r'Unimplemented keys: \["if", "then"\]'),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "banana"}, "Unknown format: banana"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex parse error"),
        ({"$defs": {"n": {"$ref": "#/$defs/n"}}, "$ref": "#/$defs/n"}, "allows nothing|NoExtension"),
    ],
)
def test_a_keyword_that_cannot_be_followed_is_named(grammars: Grammars, schema: dict[str, Any], words: str) -> None:
    with pytest.raises(SchemaRefused, match=words):
        grammars.guide("start: value\nvalue: " + json_value(prepared(schema, "s")))


def bombs() -> dict[str, dict[str, Any]]:
    wide: dict[str, Any] = {"type": "string"}
    for _ in range(14):
        wide = {"type": "object", "properties": {"a": wide, "b": wide}}
    choice = [
        {"anyOf": [{"type": "object", "required": [f"p{i}{j}"], "properties": {f"p{i}{j}": {}}} for j in range(4)]}
        for i in range(8)
    ]
    return {
        "wide": wide,
        "product of choices": {"allOf": choice},
        "100,000 words": {"enum": [f"word{i}" for i in range(100_000)]},
        "5,000 optional properties": {"type": "object", "properties": {f"p{i}": {} for i in range(5000)}},
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused(name: str, grammars: Grammars) -> None:
    with pytest.raises(SchemaRefused):
        grammars.guide("start: value\nvalue: " + json_value(prepared(bombs()[name], "s")))


def test_as_many_properties_as_allowed(demo: LlamaVocabulary, grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(MAX_PROPERTIES)}}
    text = generate(grammars.guide("start: value\nvalue: " + json_value(prepared(schema, "s"))), demo, 1)
    jsonschema.validate(json.loads(text), prepared(schema, "s"))


def test_most_of_a_call_is_forced(demo: LlamaVocabulary, grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    value = json_value(prepared({**schema, "required": ["city", "days"]}, "s"))
    before, after = '<tool_call>\n{"name": "get_weather", "arguments": ', "}\n</tool_call>"
    guide = grammars.guide(f"start: {literal(before)} value {literal(after)}\nvalue: {value}")
    rest = before + '{"city": "Paris", "days": 3}' + after
    n_forced = n_tokens = 0
    while rest:
        ids = list(guide.forced())
        n_forced += len(ids)
        ids = ids or demo.tokenize(rest, parse_control=False)[:1]
        n_tokens += len(ids)
        guide.accept(ids)
        written = b"".join(map(demo.piece, ids)).decode()
        assert rest.startswith(written)
        rest = rest[len(written) :]
    assert guide.stop == "grammar_end"
    assert n_forced >= 0.8 * (n_tokens - len(demo.tokenize("Paris3", parse_control=False)))
