"""Keys, absolute paths and e-mail addresses are covered before a recording is written. Pure.

A page covers what tokens spell when it is drawn; a file must not hold the tokens themselves, whose ids spell it again.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from nbllama.views import masking
from nbllama.wire.cassette_file import Exchange
from nbllama.wire.records import RequestRecord

COVERED_ID = -1
"""Stands for each token of a covered text."""
_PIECE = masking.COVER.encode().hex()
_MOST_PASSES = 8
_RUN = re.compile(f"{masking.COVER}+")
_SHORTEST = 8
"""Characters of a text that is covered wherever it stands; shorter ones would be found in the middle of words."""
_DELTAS = ("text", "thinking", "partial_json")


def masked_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request whose texts are covered, each at its length. Covering it again changes nothing."""
    found: dict[str, Any] = dict(request)
    # What is covered may show the next one: `sk-…/home/ann` is a path only when no letter stands before it.
    for _ in range(_MOST_PASSES):
        before, found = found, masking.covered_record({"request": found})["request"]
        if found == before:
            break
    return found


def masked_exchange(exchange: Exchange) -> Exchange:
    """An exchange as it may leave the machine."""
    record, answer = exchange.record, exchange.answer
    request = masked_request(exchange.request)
    return replace(
        exchange,
        request=request,
        answer=None if answer is None else masked_request(answer),
        record=None if record is None else masked_record(replace(record, request=exchange.request), request),
    )


def masked_record(record: RequestRecord, request: dict[str, Any]) -> RequestRecord:
    """A record without what is covered in its texts, its events and its tokens; `request` is its own, covered."""
    covered = masking.covered_record({name.name: getattr(record, name.name) for name in fields(record)})
    del covered["masked"]
    found = RequestRecord.from_dict(covered)
    literals = _literals([(record.request, request), (record.message, found.message)])
    found.request = request
    found.prompt = _covered(found.prompt, literals)
    found.output_text = _covered(found.output_text, literals)
    _cover_deltas(found.events, literals)
    prompt_ids = _prompt_ids(record, literals)
    output_ids = _spelled(record.output_ids, record.pieces, literals)
    probabilities = [
        told if id != COVERED_ID else {**told, "top": [], "raw_top": []}
        for id, told in zip(output_ids, record.probabilities, strict=False)
    ]
    found = replace(found, prompt_ids=prompt_ids, output_ids=output_ids, probabilities=probabilities)
    named = {str(id) for id in (*prompt_ids, *output_ids)}
    named |= {str(id) for told in probabilities for name in ("top", "raw_top") for id, _ in told.get(name) or ()}
    found.pieces = {id: piece for id, piece in record.pieces.items() if id in named}
    if str(COVERED_ID) in named:
        found.pieces[str(COVERED_ID)] = _PIECE
    found.special = [id for id in record.special if str(id) in named]
    return found


def _prompt_ids(record: RequestRecord, literals: list[str]) -> list[int]:
    """By the places of the tokens in the prompt, and by what they spell, which may differ in white space."""
    ids = _spelled(record.prompt_ids, record.pieces, literals)
    offsets = record.prompt_offsets
    if len(offsets) != len(ids):
        return ids
    for start, end in [*masking.find(record.prompt), *_places(record.prompt, literals)]:
        # The token that the text begins in may begin before it.
        first = max(0, bisect_right(offsets, start) - 1)
        for n in range(first, bisect_left(offsets, end)):
            ids[n] = COVERED_ID
    return ids


def _spelled(ids: list[int], pieces: Mapping[str, str], literals: list[str]) -> list[int]:
    """The ids without those of tokens that together spell a key, a path or an address."""
    try:
        spelled = [bytes.fromhex(pieces.get(str(id), "")) for id in ids]
    except ValueError:
        return list(ids)
    ends, position = [], 0
    for piece in spelled:
        position += len(piece)
        ends.append(position)
    found = list(ids)
    # Byte for byte, as the views do: half a character has no other text.
    text = b"".join(spelled).decode("latin-1")
    for start, end in [*masking.find(text), *_places(text, [one.encode().decode("latin-1") for one in literals])]:
        for n in range(bisect_right(ends, start), min(len(ids), bisect_left(ends, end) + 1)):
            found[n] = COVERED_ID
    return found


def _literals(pairs: list[tuple[Any, Any]]) -> list[str]:
    """What was covered in values: as JSON, or behind another name, the same text may not look like a secret."""
    found: dict[str, None] = {}
    for original, covered in (texts for pair in pairs for texts in _texts(*pair)):
        for match in _RUN.finditer(covered):
            literal = original[match.start() : match.end()]
            if len(literal) >= _SHORTEST and masking.COVER not in literal:
                found |= dict.fromkeys(
                    (literal, json.dumps(literal)[1:-1], json.dumps(literal, ensure_ascii=False)[1:-1])
                )
    return list(found)


def _texts(original: Any, covered: Any) -> Iterator[tuple[str, str]]:
    """Each text with what became of it."""
    if isinstance(original, str) and isinstance(covered, str):
        if original != covered:
            yield original, covered
    elif isinstance(original, Mapping) and isinstance(covered, Mapping):
        for one, other in zip(original.values(), covered.values(), strict=False):
            yield from _texts(one, other)
    elif isinstance(original, list) and isinstance(covered, list):
        for one, other in zip(original, covered, strict=False):
            yield from _texts(one, other)


def _places(text: str, literals: list[str]) -> Iterator[tuple[int, int]]:
    for literal in literals:
        at = text.find(literal)
        while at >= 0:
            yield at, at + len(literal)
            at = text.find(literal, at + len(literal))


def _covered(text: str, literals: list[str]) -> str:
    for literal in literals:
        text = text.replace(literal, masking.COVER * len(literal))
    return text


def _cover_deltas(events: list[list[Any]], literals: list[str]) -> None:
    """The deltas of a block are covered as one text."""
    blocks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, event in events:
        delta = event.get("delta")
        for name in _DELTAS if isinstance(delta, dict) else ():
            if isinstance(delta.get(name), str):
                blocks.setdefault((str(event.get("index")), name), []).append(delta)
    for (_, name), deltas in blocks.items():
        whole, start = _covered("".join(delta[name] for delta in deltas), literals), 0
        for delta in deltas:
            end = start + len(delta[name])
            delta[name] = whole[start:end]
            start = end
