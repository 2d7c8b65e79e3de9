"""Numbers that come to an end: a model that has begun one may else go on with digits up to `max_tokens`."""

from __future__ import annotations

from typing import Any

SAFE_INTEGER = 2**53 - 1
"""The largest that every reader of JSON keeps exactly (RFC 8259 §6)."""
# llguidance writes a number that has limits without an exponent, but with any number of decimals.
_STEP = 1e-9
_SMALLEST_RANGE = 1e-6
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def with_limits(schema: dict[str, Any]) -> dict[str, Any]:
    """An integer gets the limits that it does not have; a number that has some gets both, and at most nine decimals.

    A number without any stays as it is, because only so it may have an exponent."""
    kind = schema.get("type")
    kinds = {kind} if isinstance(kind, str) else {str(one) for one in kind} if isinstance(kind, list) else set()
    if "enum" in schema or "const" in schema or "string" in kinds or not kinds & {"integer", "number"}:
        return schema
    given = [schema[key] for key in (*_LOWER, *_UPPER) if key in schema]
    if not all(isinstance(value, int | float) and abs(value) <= SAFE_INTEGER for value in given):
        return schema
    if "number" not in kinds:
        return _limited(schema)
    return _with_few_decimals(_limited(schema)) if given else schema


def _limited(schema: dict[str, Any]) -> dict[str, Any]:
    lower = {} if any(key in schema for key in _LOWER) else {"minimum": -SAFE_INTEGER}
    upper = {} if any(key in schema for key in _UPPER) else {"maximum": SAFE_INTEGER}
    return schema | lower | upper


def _with_few_decimals(schema: dict[str, Any]) -> dict[str, Any]:
    lower = max(schema[key] for key in _LOWER if key in schema)
    upper = min(schema[key] for key in _UPPER if key in schema)
    fine = any(0 < abs(value) < _SMALLEST_RANGE for value in (lower, upper)) or upper - lower < _SMALLEST_RANGE
    return schema if fine or "multipleOf" in schema else schema | {"multipleOf": _STEP}
