"""What a function returned → what the model reads of it: text, bounded. Pure."""

from __future__ import annotations

import json
import sys
from typing import Any

LIMIT = 4000
"""Characters of a result that a model is given, about a thousand tokens: small contexts must hold several."""

Content = str | list[dict[str, Any]]

_ROWS, _COLUMNS, _CELL = 30, 12, 60
_BLOCKS = ("text", "image", "document", "search_result", "tool_reference")


class NotText(Exception):
    """A value of which no text can be made; its text is what the model and the user are told."""


def content_of(value: Any, *, is_plain: bool = True, limit: int = LIMIT) -> Content:
    """The content of a `tool_result`. A str stays, tables and Series become text, everything else JSON.

    Content blocks pass where the tool is the SDK's (not `is_plain`). Raises NotText."""
    if isinstance(value, str):
        return cut(value, limit)
    if not is_plain and isinstance(value, list | tuple) and value and all(_is_block(one) for one in value):
        return [dict(one) for one in value]
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return cut(_table(value, pandas), limit)
    return cut(_json(value), limit)


def cut(text: str, limit: int = LIMIT) -> str:
    """The text as it can be sent, and no longer than `limit`, with what is missing told."""
    if len(text) > limit:
        text = f"{text[:limit]}\n[cut: the first {limit:,} of {len(text):,} characters]"
    # A lone surrogate is no text that a request can carry.
    return text.encode("utf-8", "replace").decode()


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in _BLOCKS


def _table(value: Any, pandas: Any) -> str:
    size = f"{len(value):,} rows"
    options: dict[str, Any] = {"max_rows": _ROWS}
    if value.ndim == 2:
        size += f", {len(value.columns):,} columns"
        options["max_cols"] = _COLUMNS
    with pandas.option_context("display.max_colwidth", _CELL, "display.width", None):
        return f"[{size}]\n{value.to_string(**options)}"


def _json(value: Any) -> str:
    # pydantic's own serialiser: it knows dates, decimals, paths, enums, sets, dataclasses and models.
    from pydantic_core import to_jsonable_python

    try:
        if hasattr(value, "__next__"):
            raise TypeError("an iterator may have no end")
        return json.dumps(to_jsonable_python(value, fallback=_plain_value), ensure_ascii=False)
    except Exception as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise NotText(
            f"The tool returned a {kind}, which cannot be sent as text: return str, a number, a dict, a list or a "
            f"DataFrame. Its repr: {_repr(value)}"
        ) from error


def _plain_value(value: Any) -> Any:
    """numpy's arrays and numbers, and pandas' missing values; raises TypeError for the rest."""
    if type(value).__module__.partition(".")[0] in ("numpy", "pandas"):
        return value.tolist() if hasattr(value, "tolist") else None
    raise TypeError(type(value).__name__)


def _repr(value: Any) -> str:
    try:
        return cut(repr(value), 200)
    except Exception as error:  # a user's class
        return f"(its repr raised {type(error).__name__})"
