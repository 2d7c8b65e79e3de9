"""What is a schema and what is none, as jsonschema judges it."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.json_schema import is_schema
from tests.wire.test_request_fields import parse

SCHEMAS: list[Any] = [
    {},
    {"type": "object"},
    {"type": ["string", "null"]},
    {"properties": {"a": True, "type": {"type": "string"}, "required": {"enum": ["b"]}}, "required": ["a"]},
    {"items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/x"}]}, "$defs": {"x": {"const": 1}}},
    {"additionalProperties": {"type": "number"}, "x-own": [1], "title": "t", "description": "d"},
    {"enum": [1, None, "x"], "default": {"type": 5}, "examples": [{"type": "foo"}]},
    {"not": False, "patternProperties": {"^a": {}}, "prefixItems": [{}], "format": "date"},
]
OTHERS: list[Any] = [
    {"type": "foo"},
    {"type": []},
    {"type": None},
    {"type": [1]},
    {"properties": {"a": "bar"}},
    {"properties": []},
    {"properties": {"a": {"items": {"type": "text"}}}},
    {"items": [{"type": "string"}]},
    {"required": "a"},
    {"required": [1]},
    {"anyOf": []},
    {"anyOf": {"type": "string"}},
    {"additionalProperties": "no"},
    {"$defs": {"x": 3}},
    {"enum": "a"},
    {"description": 5},
    {"pattern": 1},
]


@pytest.mark.parametrize("schema", [*SCHEMAS, *OTHERS], ids=str)
def test_judged_alike(schema: Any) -> None:
    try:
        Draft202012Validator.check_schema(schema)
        valid = True
    except SchemaError:
        valid = False

    assert is_schema(schema) is valid is (schema in SCHEMAS)


@pytest.mark.parametrize("deep", OTHERS, ids=str)
def test_a_tool_is_refused_however_deep_it_is(deep: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"properties": {"b": deep}}}}}
    with pytest.raises(InvalidRequest) as refused:
        parse(tools=[{"name": "look", "input_schema": schema}])

    place = "tools.0.custom.input_schema"
    assert refused.value.message == f"{place}: JSON schema is invalid. It must match JSON Schema draft 2020-12"
