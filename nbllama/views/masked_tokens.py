"""A record to be kept in a file that others get: what spells a key or an absolute path is gone, also as tokens. Pure.

A page only hides such tokens. A file must not hold them: ids and pieces together spell every secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nbllama.views.masking import COVER, covered_record
from nbllama.views.reading import Reading, Record, n_characters
from nbllama.wire.records import RequestRecord

NOTE = "keys and absolute paths were covered with • when this trace was saved"


def without_secrets(record: Record) -> dict[str, Any]:
    """The record with secrets covered. A token of one has a number below 0 for its id, which says how many characters
    it had; whose request it was is left out. A warning says so where anything was covered."""
    original = record.to_dict() if isinstance(record, RequestRecord) else dict(record)
    kept = covered_record(original)
    reading = Reading(kept)
    prompt = _without(reading, reading.prompt_ids, reading.hidden[0])
    answer = _without(reading, reading.output_ids, reading.hidden[1])
    kept |= {"prompt_ids": prompt, "output_ids": answer} if reading.prompt_ids or reading.output_ids else {}
    kept["probabilities"] = _probabilities(original.get("probabilities"), reading.hidden[1])
    kept |= _vocabulary(kept, [*prompt, *answer])
    del kept["masked"]
    kept["client"] = "local"
    if any(reading.hidden) or any(kept[name] != original.get(name) for name in _TEXTS if name in kept):
        kept["warnings"] = [*reading.warnings, NOTE]
    return kept


_TEXTS = ("request", "prompt", "output_text", "events", "message", "parser_steps", "error")


def _without(reading: Reading, ids: Sequence[int], hidden: Collection[int]) -> list[int]:
    return [-max(1, n_characters(reading.piece(id) or b"")) if index in hidden else id for index, id in enumerate(ids)]


def _probabilities(told: Any, hidden: Collection[int]) -> Any:
    """Of a covered token its candidates would say as much as it would."""
    if not hidden or not isinstance(told, list):
        return told
    return [
        {key: value for key, value in one.items() if key not in ("top", "raw_top")}
        if index in hidden and isinstance(one, Mapping)
        else one
        for index, one in enumerate(told)
    ]


def _vocabulary(record: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The bytes of those tokens that are still named."""
    reading = Reading(record)
    named = {str(id) for id in ids if id >= 0}
    for one in reading.mappings("probabilities"):
        named |= {str(pair[0]) for name in ("top", "raw_top") for pair in one.get(name) or [] if pair}
    pieces = {id: piece for id, piece in reading.mapping("pieces").items() if id in named}
    if pieces:
        pieces |= {str(id): (COVER * -id).encode().hex() for id in set(ids) if id < 0}
    special = record.get("special")
    kept = [id for id in special if str(id) in named] if isinstance(special, list) else special
    return {"pieces": pieces, "special": kept}
