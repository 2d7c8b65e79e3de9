"""`{{name}}` in a prompt stands for the value of the variable `name`. Single braces, as in JSON, stay. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.near import near_variable

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")


def interpolate(text: str, variables: Mapping[str, Any]) -> str:
    """The text with each value as `str` writes it. Raises UsageError for a name that has none."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            fix = near_variable(match[1], variables) or "give it a value in a cell above"
            raise UsageError(f"%%llama: {match[0]} in the prompt, but there is no variable {match[1]}\n→ {fix}")
        return str(variables[match[1]])

    return _VARIABLE.sub(value, text)
