"""What of a schema is kept, what is added, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from nbllama.chat.errors import SchemaRefused
from nbllama.chat.schema import MAX_DEPTH, prepared
from nbllama.chat.schema_numbers import SAFE_INTEGER


def test_required_properties_come_first_at_every_level() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "required": ["y"]}
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": inner}, "b": inner}, "required": ["b"]}
    result = prepared(schema, "schema")
    assert list(result["properties"]) == ["b", "a"]
    assert list(result["properties"]["b"]["properties"]) == ["y", "x"]
    assert list(result["properties"]["a"]["items"]["properties"]) == ["y", "x"]


def test_objects_are_closed_unless_they_say_otherwise() -> None:
    properties = {"a": {"type": "string"}}
    assert prepared({"type": "object", "properties": properties}, "s")["additionalProperties"] is False
    assert prepared({"type": "object", "properties": properties, "additionalProperties": True}, "s")[
        "additionalProperties"
    ]
    assert "additionalProperties" not in prepared({"type": "object"}, "s")


def test_annotations_go_and_one_of_is_any_of() -> None:
    schema = {"$schema": "x", "title": "T", "description": "d", "default": 3, "oneOf": [{"type": "boolean"}]}
    assert prepared(schema, "s") == {"anyOf": [{"type": "boolean"}]}


@pytest.mark.parametrize(
    ("schema", "added"),
    [
        ({"type": "integer"}, {"minimum": -SAFE_INTEGER, "maximum": SAFE_INTEGER}),
        ({"type": ["integer", "null"], "minimum": 0}, {"maximum": SAFE_INTEGER}),
        ({"type": "integer", "exclusiveMaximum": 5}, {"minimum": -SAFE_INTEGER}),
        ({"type": "integer", "minimum": 10**17}, {}),
        ({"type": "integer", "minimum": "a"}, {}),
        ({"type": "integer", "enum": [10**30]}, {}),
        ({"type": ["integer", "string"]}, {}),
        ({"type": "number"}, {}),
        ({"type": "number", "minimum": 0, "maximum": 1}, {"multipleOf": 1e-9}),
        ({"type": "number", "minimum": 0}, {"maximum": SAFE_INTEGER, "multipleOf": 1e-9}),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-10}, {}),
        ({"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25}, {}),
    ],
)
def test_numbers_come_to_an_end(schema: dict[str, Any], added: dict[str, Any]) -> None:
    assert prepared(schema, "s") == schema | added


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "$ref": {"const": 1}}}
    assert list(prepared(schema, "s")["properties"]) == ["title", "$ref"]


def test_values_are_not_schemas() -> None:
    schema = {"enum": [{"title": "kept", "oneOf": 3}], "const": {"default": 1}}
    assert prepared(schema, "s") == schema


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "^s: Input should be a valid dictionary"),
        ({"properties": []}, "^s.properties: Input"),
        ({"properties": {"a": 3}}, r"^s.properties.a: Input should be a valid schema"),
        ({"anyOf": {}}, "^s.anyOf: Input should be a list"),
        ({"anyOf": [{"items": {"$ref": "http://there/x"}}]}, r"^s.anyOf.0.items.\$ref: external"),
        ({"properties": {}, "required": "a"}, "^s.required: Input"),
        (nested(MAX_DEPTH + 1), "nested more than 100 levels"),
        (nested(50_000), "nested more than 100 levels"),
    ],
)
def test_what_is_no_schema_is_named(schema: Any, words: str) -> None:
    with pytest.raises(SchemaRefused, match=words):
        prepared(schema, "s")


def test_as_deep_as_allowed() -> None:
    prepared(nested(MAX_DEPTH), "s")
