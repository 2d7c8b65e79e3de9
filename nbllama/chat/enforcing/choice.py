"""What a request asks of calls, with its schemas prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """`forced`: an answer is calls (of `tools` alone). `one`: of them there is one. `value`: a JSON schema, prepared,
    of what an answer that is no call has to be."""

    tools: Mapping[str, dict[str, Any]]
    forced: bool = False
    one: bool = False
    value: dict[str, Any] | None = None
