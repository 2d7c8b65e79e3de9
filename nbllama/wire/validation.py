"""Bytes → JSON → a checked object, and what is wrong as one `<path>: <text>`, which is how the API words it."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from nbllama.wire.errors import InvalidRequest
from nbllama.wire.tools import TOOL_TYPES

Model = TypeVar("Model", bound=BaseModel)

# `1e999` is JSON by its grammar, and infinity once it is read: no JSON any more when it is written again.
_MAY_BE_INFINITE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{300}")


def parse_json(body: bytes) -> dict[str, Any]:
    """A body as a JSON object, nested at most 200 deep. Raises InvalidRequest.

    Everything that would break later is refused here: half surrogates, which have no UTF-8 form, infinite numbers,
    and depths at which whoever walks over the value runs out of stack.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
        if _MAY_BE_INFINITE.search(body):
            json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The request body is not valid JSON: it must be an object")
    return value


def validate(kind: type[Model], data: dict[str, Any]) -> Model:
    """The object of a body. Raises InvalidRequest with the first problem."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidRequest(_describe(error.errors(include_url=False, include_input=False)[0])) from error


def _describe(error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    context = error.get("ctx", {})
    match error["type"]:
        case "union_tag_not_found":
            return f"{path}.type: Field required"
        case "union_tag_invalid":
            expected = context["expected_tags"]
            if path.startswith("tools."):
                expected = ", ".join(f"'{type}'" for type in TOOL_TYPES)
            tag = str(context["tag"])[:100]
            text = f"Input tag '{tag}' found using 'type' does not match any of the expected tags: {expected}"
        case "none_required":
            text = "Extra inputs are not permitted"
        case "model_type" | "model_attributes_type":
            text = "Input should be a valid dictionary"
        case _:
            text = error["msg"]
    return f"{path}: {text}"
