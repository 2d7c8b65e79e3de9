"""Calls as Python writes them: `[get_weather(city='Paris', days=3), get_time()]`."""

from __future__ import annotations

import re

from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.loose import LooseValue
from nbllama.chat.syntaxes.reading import Call
from nbllama.chat.values import quoted

_OPEN = Markers({"open": Marker("(")})
_EQUALS = Markers({"equals": Marker("=")})
_NAME = re.compile(r"\s*[^\W\d]?\w{0,100}\s*")


def read(call: Call) -> Reading[bool]:
    source, output = call.source, call.output
    found = yield from call.name_until(_OPEN)
    if found is None or found[2].match is None:
        return False
    source.take(found[2].match.end)
    output.start_call(found[0], call.id)
    output.arguments("{")
    n_arguments = 0
    while True:
        yield from source.skip_space()
        char = yield from source.peek()
        if char == ")":
            source.take(source.at + 1)
            output.arguments("}")
            yield from call.end()
            return True
        if char == "," and n_arguments:
            source.take(source.at + 1)
            continue
        if not char:
            output.stop_call()
            return True
        key = yield from _key(call, found[0], n_arguments)
        output.arguments((", " if n_arguments else "") + f'"{quoted(key)}": ')
        n_arguments += 1
        if not (yield from LooseValue(source, output.arguments).read()):
            yield from call.broken()
            return True


def _key(call: Call, tool: str, position: int) -> Reading[str]:
    """The name before `=`; an argument without one is that of the schema at its place."""
    found = yield from call.source.short_until(_EQUALS, lambda text: _NAME.fullmatch(text) is not None)
    if found is not None and found[1].match is not None:
        call.source.take(found[1].match.end)
        return found[0].strip()
    schema = call.tools.get(tool)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    names = list(properties) if isinstance(properties, dict) else []
    return str(names[position]) if position < len(names) else f"argument_{position + 1}"
