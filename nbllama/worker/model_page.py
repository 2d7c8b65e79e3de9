"""`GET /v1/models` in pages, as the SDKs walk them (anthropic-api §1)."""

from __future__ import annotations

import re
from typing import Any

from nbllama.wire.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000


LIFECYCLE = ("active", "deprecated", "retired")


def in_lifecycle(models: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    """The models in one of the `wanted` states, all if none is named. Raises InvalidRequest for what is no state."""
    for state in wanted:
        if state not in LIFECYCLE:
            raise InvalidRequest("lifecycle: Input should be 'active', 'deprecated' or 'retired'")
    return [model for model in models if not wanted or model["lifecycle"] in wanted]


def page_of(
    models: list[dict[str, Any]],
    *,
    limit: str | None = None,
    after_id: str | None = None,
    before_id: str | None = None,
    lenient: bool = False,
) -> dict[str, Any]:
    """The `limit` models behind `after_id` or before `before_id`.

    Raises InvalidRequest for a limit that is none and for ids of no model (`lenient`: they change nothing): whoever
    walks the pages would begin again.
    """
    count = _limit(limit)
    ids = [model["id"] for model in models]
    for name, id in (("after_id", after_id), ("before_id", before_id)):
        if id is not None and id not in ids and not lenient:
            raise InvalidRequest(f"{name}: no model has this id")
    start, end = 0, len(models)
    if before_id in ids:
        end = ids.index(before_id)
        start = max(0, end - count)
        more = start > 0
    else:
        start = ids.index(after_id) + 1 if after_id in ids else 0
        end = min(end, start + count)
        more = end < len(models)
    data = models[start:end]
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    # Python refuses to read thousands of digits.
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        raise InvalidRequest("limit: Input should be a valid integer, unable to parse string as an integer")
    if int(text) < 1:
        raise InvalidRequest("limit: Input should be greater than or equal to 1")
    if int(text) > MAX_LIMIT:
        raise InvalidRequest(f"limit: Input should be less than or equal to {MAX_LIMIT}")
    return int(text)
