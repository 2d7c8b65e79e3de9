"""`.tokens()`: the exact prompt and the answer, token by token."""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.inspector import TEXT, Inspector
from nbllama.views.tokens import Tokens


class TokensInspector(Inspector[Tokens]):
    """`df` has a row for each token of the prompt, then of the answer."""

    dtypes: ClassVar = {
        "i": "int64",
        "part": TEXT,
        "id": "Int64",
        "piece": TEXT,
        "bytes": TEXT,
        "special": "boolean",
        "origin": TEXT,
        "message": "Int64",
        "block": "Int64",
        "cached": "boolean",
    }

    @property
    def counts(self) -> dict[str, int]:
        """Tokens by who wrote them, in the order in which they first appear; the answer last."""
        return {origin.kind: count for origin, count in self.view.counts()}
