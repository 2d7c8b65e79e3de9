"""A pytest plugin for the SDK's own suite: what exceptions.txt lists must fail, everything else must pass.

Loaded into the suite's own process by `-p expected_failures`, with this folder on the path.
"""

from __future__ import annotations

from pathlib import Path

import anthropic
import pytest

MOST = 8
LIST = Path(__file__).with_name("exceptions.txt")


def expected() -> dict[str, str]:
    """Node id without parameters → why it fails."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" # ", 1) for line in lines if line and not line.startswith("#"))
    return {id: reason for id, reason in pairs}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = expected()
    missing = set(reasons) - {function_of(item) for item in items}
    if missing or len(reasons) > MOST:
        raise pytest.UsageError(f"{LIST.name}: {len(reasons)} exceptions, at most {MOST}; not in the suite: {missing}")
    for item in items:
        if reason := reasons.get(function_of(item)):
            mark = pytest.mark.xfail(raises=anthropic.BadRequestError, strict=True, reason=reason)
            item.add_marker(mark)


def function_of(item: pytest.Item) -> str:
    return item.nodeid.split("[")[0]
