"""`.tokens()`: the exact prompt and the answer, token by token."""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT
from nbllama.notebook.inspectors.tokenizers import TokenizersInspector
from nbllama.views.tokenizers import Tokenizers
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

    def compare(self, other: TokensInspector | str) -> TokenizersInspector:
        """With the tokens of another model: those of another inspector, or of the same text or messages in the model
        of this name. Raises TraceError."""
        if isinstance(other, str):
            from nbllama.notebook.on_text import tokens_of_request

            other = tokens_of_request(self.view.reading.mapping("request"), other)
        return TokenizersInspector(Tokenizers([self.view, other.view]), f"{self.of} and {other.of}")

    @property
    def counts(self) -> dict[str, int]:
        """Tokens by who wrote them, in the order in which they first appear; the answer last."""
        return {origin.kind: count for origin, count in self.view.counts()}
