"""What stands around and inside calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from nbllama.chat.capabilities import TOOL, TOOL_2
from nbllama.chat.deriving.cutting import common_prefix, split_gap, unify, without_prefix, without_suffix
from nbllama.chat.deriving.samples import (
    FIRST,
    HARD,
    ID_1,
    ID_2,
    KEY_A,
    KEY_B,
    SECOND,
    TYPED,
    VALUE_A,
    VALUE_B,
    VALUE_C,
    Samples,
)
from nbllama.chat.deriving.turn import Turn
from nbllama.chat.format import Calls

Found = tuple[int, int, dict[str, Any]]


def derive_calls(samples: Samples, turn: Turn, ends: tuple[str, ...]) -> Calls | None:
    """None where the template shows no calls, or in no form that has a syntax here. `ends` never belong to a call."""
    two = samples.calls(FIRST, SECOND)
    text = two or samples.calls(FIRST)
    if text is None:
        return None
    calls = _derived(samples, turn, ends, _body(text, turn, ends), two is not None)
    return replace(_without_blanks(calls), compact=f'"{KEY_A}":"' in text) if calls else None


def _without_blanks(calls: Calls) -> Calls:
    """Space alone is no marker."""
    blank: dict[str, Any] = {field.name: "" for field in fields(calls) if str(getattr(calls, field.name)).isspace()}
    return replace(calls, **blank)


def _derived(samples: Samples, turn: Turn, ends: tuple[str, ...], body: str, two: bool) -> Calls | None:
    whole = _find_json(body, 0, lambda value: TOOL in json.dumps(value) and VALUE_A in json.dumps(value))
    if whole and whole[0] < body.find(TOOL):
        return _json_calls(body, whole, two)
    body = body.replace(ID_1, "{id}").replace(ID_2, "{id}")
    start = body.find(TOOL)
    arguments = _find_json(body, start, lambda value: value == FIRST[1])
    if arguments:
        return _tag_json(body, start, arguments, two)
    if re.search(rf"{TOOL}\({KEY_A}\s*=\s*['\"]", body):
        lead, after = body[:start].rstrip(), body[body.rfind(VALUE_C if two else VALUE_B) :]
        return Calls("pythonic", section_open=lead.removesuffix("["), section_close=after[after.find("]") + 1 :])
    return _tagged(samples, body, turn, ends, two)


def _body(text: str, turn: Turn, ends: tuple[str, ...]) -> str:
    """The calls alone: no header, no empty thinking, not what ends a turn."""
    start = text.find(TOOL)
    lead = text[len(turn.header) :] if text.startswith(turn.header) else text
    offset = len(text) - len(lead)
    if turn.think and turn.think.close and turn.think.close in text[offset:start]:
        offset = text.rfind(turn.think.close, offset, start) + len(turn.think.close)
    elif turn.header.strip() and offset == 0:
        header = text.rfind(turn.header.strip(), 0, start)
        offset = header + len(turn.header.strip()) if header >= 0 else 0
    body = without_suffix(text[offset:], turn.ending)
    cuts = [cut for end in ends if (cut := body.find(end, body.find(TOOL))) >= 0]
    return body[: min(cuts)] if cuts else body


def _find_json(text: str, start: int, fits: Callable[[dict[str, Any]], bool]) -> Found | None:
    """(start, end, value) of the first JSON object that fits."""
    for brace in re.compile(r"\{").finditer(text, start):
        try:
            value, end = json.JSONDecoder().raw_decode(text, brace.start())
        except ValueError:
            continue
        if fits(value):
            return brace.start(), end, value
    return None


def _json_calls(body: str, first: Found, two: bool) -> Calls:
    start, end, value = first
    second = _find_json(body, end, lambda value: TOOL_2 in json.dumps(value)) if two else None
    gap = body[end : second[0]] if second else None
    lead, after = body[:start], body[second[1] if second else end :]
    array = lead.rstrip().endswith("[") and after.lstrip().startswith("]") and (gap or ",").strip() == ","
    if array:
        lead, after = lead.rstrip()[:-1], after.lstrip()[1:]
    calls = replace(_keys(value), array=array)
    if gap is not None and gap.strip() not in ("", ","):
        close, opener = split_gap(gap, lead)
        if opener.strip():
            rest = without_prefix(after, close)
            section = without_suffix(lead, opener)
            return replace(calls, open=opener, close=close, section_open=section, section_close=rest)
    return replace(calls, section_open=lead, section_close=after)


def _keys(value: dict[str, Any]) -> Calls:
    """Under which keys name, arguments and id are."""
    name = _path(value, lambda part: part == TOOL)
    if name is None:
        return Calls(name_is_key=True)
    arguments = _path(value, lambda part: VALUE_A in json.dumps(part)) or ("arguments",)
    used = {name[0], arguments[0]}
    ids = [key for key, part in value.items() if part == ID_1 or (key not in used and _is_id(key, part))]
    order = list(value)
    return Calls(
        name_path=name,
        arguments_path=arguments,
        id_path=tuple(ids[:1]),
        id_last=bool(ids) and order.index(ids[0]) > order.index(arguments[0]),
    )


def _is_id(key: str, part: Any) -> bool:
    return "id" in key.lower() and isinstance(part, str | int)


def _path(value: dict[str, Any], fits: Callable[[Any], bool]) -> tuple[str, ...] | None:
    """Where in nested objects the innermost fitting value is, arguments counting as one."""
    for key, part in value.items():
        if isinstance(part, dict) and KEY_A not in part and (deeper := _path(part, fits)):
            return (key, *deeper)
        if fits(part):
            return (key,)
    return None


def _tag_json(body: str, start: int, arguments: Found, two: bool) -> Calls:
    lead, middle = body[:start], body[start + len(TOOL) : arguments[0]]
    if not two:
        return Calls("tag_json", open=lead, close=body[arguments[1] :], middle=middle)
    start_2 = body.find(TOOL_2, arguments[1])
    second = _find_json(body, start_2, lambda value: value == SECOND[1])
    if second is None:
        return Calls("tag_json", open=lead, close=body[arguments[1] :], middle=middle)
    close, opener = split_gap(body[arguments[1] : start_2], lead)
    middle = unify(middle, body[start_2 + len(TOOL_2) : second[0]])
    prefix = re.search(r"[A-Za-z_.]+$", opener)
    return Calls(
        "tag_json",
        section_open=without_suffix(lead, opener),
        section_close=without_prefix(body[second[1] :], close),
        open=opener,
        close=close,
        middle=middle,
        id_prefix=prefix.group() if prefix and "{any}" in middle else "",
    )


def _tagged(samples: Samples, body: str, turn: Turn, ends: tuple[str, ...], two: bool) -> Calls | None:
    places = _places(body, (TOOL, KEY_A, VALUE_A, KEY_B, VALUE_B))
    if places is None:
        return None
    to_key, to_value, to_next = (body[a:b] for a, b in places[:3])
    value_open = _value_open(samples, turn, ends, to_value)
    value_close, key_open = split_gap(to_next, to_key)
    name_close = without_suffix(to_key, key_open)
    lead, end = body[: body.find(TOOL)], places[3][1] + len(VALUE_B)
    calls = Calls(
        "tagged",
        key_open=key_open,
        value_open=value_open,
        value_close=value_close,
        cdata="<![CDATA[" in (samples.calls(HARD) or ""),
    )
    second = _places(body[end:], (TOOL_2, KEY_A, VALUE_C)) if two else None
    if second is None:
        return replace(calls, open=lead, name_close=name_close, close=_behind(body[end:], value_close))
    rest, opener = split_gap(body[end : end + body[end:].find(TOOL_2)], lead)
    to_key_2 = body[end + second[0][0] : end + second[0][1]]
    close = _behind(rest, value_close)
    after = without_prefix(body[end + second[1][1] + len(VALUE_C) :], value_close)
    return replace(
        calls,
        section_open=without_suffix(lead, opener),
        section_close=without_prefix(after, close),
        open=opener,
        close=close,
        name_close=unify(name_close, without_suffix(to_key_2, key_open)),
    )


def _places(body: str, sentinels: tuple[str, ...]) -> list[tuple[int, int]] | None:
    """What stands between neighbouring sentinels, as ranges; None if one is missing."""
    ranges: list[tuple[int, int]] = []
    end = body.find(sentinels[0]) + len(sentinels[0])
    for sentinel in sentinels[1:]:
        start = body.find(sentinel, end)
        if start < 0:
            return None
        ranges.append((end, start))
        end = start + len(sentinel)
    return ranges


def _value_open(samples: Samples, turn: Turn, ends: tuple[str, ...], for_text: str) -> str:
    """With what a tag says of a value's type as `{any}`."""
    text = samples.calls(TYPED)
    if text is None:
        return for_text
    body = _body(text, turn, ends)
    start = body.find(KEY_A, body.find(TOOL))
    end = body.find("7", start)
    return unify(for_text, body[start + len(KEY_A) : end]) if 0 <= start < end else for_text


def _behind(text: str, value_close: str) -> str:
    """What follows the last value's own end."""
    if value_close.strip() and text.strip().startswith(value_close.strip()):
        return text.lstrip()[len(value_close.strip()) :]
    return text[common_prefix(value_close, text) :]
