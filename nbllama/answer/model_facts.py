"""What can be asked about a loaded model without a request: a text's tokens, and how it writes calls and thinking."""

from __future__ import annotations

from typing import Any

from nbllama.answer.model_catalog import LoadedModel
from nbllama.chat.format import to_data


def tokens_of(model: LoadedModel, text: str) -> dict[str, Any]:
    """`{"tokens": [{"id", "piece"}]}`. Control tokens stay text."""
    ids = model.vocabulary.tokenize(text, parse_control=False)
    pieces = [model.vocabulary.piece(id).decode(errors="replace") for id in ids]
    return {"tokens": [{"id": id, "piece": piece} for id, piece in zip(ids, pieces, strict=True)]}


def format_of(model: LoadedModel) -> dict[str, Any]:
    """The `Format` as data, where it is from, and which of the template's own renderings it reads back.

    `checks` are True, False, or None for what the template does not render."""
    derived = model.template.derived
    return {
        "id": model.source.id,
        "family": model.template.format.family,
        "source": derived.source,
        "format": to_data(model.template.format),
        "checks": {check.name: check.passed for check in derived.checks},
        "warnings": list(model.template.warnings),
    }
