"""Calls whose arguments are elements named after them, and whose objects and arrays are elements within."""

from __future__ import annotations

import re
from typing import Any

from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.reading import Call
from nbllama.chat.values import alternatives, json_of, quoted, types_of

_MAX_DEPTH = 30
_MAX_KEY = 200
_TAG_END = Markers({"end": Marker(">")})


def read(call: Call) -> Reading[bool]:
    source, output, namespace = call.source, call.output, call.marks.calls.namespace
    found = yield from call.name_until(call.marks.name_ends)
    if found is None:
        return False
    name, _, hit = found
    source.take(hit.match.end if hit.match and hit.name == "name_close" else hit.start)
    output.start_call(name, call.id)
    output.arguments("{")
    closing = {f"close{index}": tag for index, tag in enumerate(call.marks.closing)}
    between = Markers(closing | {"section_close": call.marks.section_first})
    n_values = 0
    while True:
        yield from source.skip_space()
        if (yield from source.find_at(between)) is not None:
            break
        if (yield from source.take_marker(Marker(f"{namespace}<"))) is None:
            break
        closed = yield from _element(call, name, first=n_values == 0)
        if not closed:
            return True
        n_values += 1
    if source.ended and source.empty:
        output.stop_call()
        return True
    output.arguments("}")
    yield from call.end()
    return True


def _element(call: Call, tool: str, *, first: bool) -> Reading[bool]:
    """One argument, from behind the `<` that opens it. False: the text ended inside, or this is none."""
    source, output, namespace = call.source, call.output, call.marks.calls.namespace
    found = yield from source.short_until(_TAG_END, lambda key: len(key) <= _MAX_KEY and "<" not in key)
    if found is None or found[1].match is None:
        yield from call.broken()
        return False
    key = found[0]
    source.take(found[1].match.end)
    output.arguments(("" if first else ", ") + f'"{quoted(key)}": ')
    opener, closer = f"{namespace}<{key}>", f"{namespace}</{key}>"
    marks = Markers({"open": Marker(opener), "close": Marker(closer)})
    parts: list[str] = []
    depth = 1
    while depth:
        hit = yield from source.until(marks, parts.append)
        if hit is None or hit.match is None:
            break
        depth += 1 if hit.name == "open" else -1
        tag = source.take(hit.match.end)
        if depth:
            parts.append(tag)
    output.arguments(_convert("".join(parts), call.schema(tool, key), call.root(tool), namespace, 0))
    if depth:
        output.stop_call()
    return depth == 0


def _convert(raw: str, schema: Any, root: Any, namespace: str, depth: int) -> str:
    """JSON of what stands inside an element."""
    types = types_of(schema, root)
    if "string" in types or depth > _MAX_DEPTH:
        return f'"{quoted(raw)}"'
    children = _children(raw, namespace)
    if not children:
        empty = "[]" if "array" in types else "{}" if "object" in types else ""
        return empty if empty and not raw.strip() else json_of(raw, types)
    options = alternatives(schema, root)
    array = next((option for option in options if option.get("type") == "array"), None)
    an_object = next((option for option in options if option.get("type") == "object"), None)
    if all(name == "item" for name, _ in children) and (array is not None or an_object is None):
        items = (array or {}).get("items")
        return "[" + ", ".join(_convert(text, items, root, namespace, depth + 1) for _, text in children) + "]"
    known = (an_object or {}).get("properties")
    schemas = known if isinstance(known, dict) else {}
    return (
        "{"
        + ", ".join(
            f'"{quoted(name)}": {_convert(text, schemas.get(name), root, namespace, depth + 1)}'
            for name, text in children
        )
        + "}"
    )


def _children(raw: str, namespace: str) -> list[tuple[str, str]]:
    """(name, what is inside) of the elements in a row; empty if there is anything beside them."""
    opener = re.compile(rf"\s*{re.escape(namespace)}<([^<>/]+)>")
    children: list[tuple[str, str]] = []
    position = 0
    while found := opener.match(raw, position):
        name = found.group(1)
        end = _end_of(raw, found.end(), f"{namespace}<{name}>", f"{namespace}</{name}>")
        if end < 0:
            return []
        children.append((name, raw[found.end() : end]))
        position = end + len(namespace) + len(name) + 3
    return children if not raw[position:].strip() else []


def _end_of(raw: str, start: int, opener: str, closer: str) -> int:
    """Where the element that is open at `start` is closed; -1 if nowhere."""
    depth = 1
    for found in re.compile(f"{re.escape(opener)}|{re.escape(closer)}").finditer(raw, start):
        depth += 1 if found.group() == opener else -1
        if depth == 0:
            return found.start()
    return -1
