"""Calls with the name in a tag and the arguments as one JSON object behind it."""

from __future__ import annotations

from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.reading import Call

_BRACE = Marker("{")


def read(call: Call) -> Reading[bool]:
    """Models leave the text between name and arguments out at times; the brace stands for it then."""
    source, calls = call.source, call.marks.calls
    found = yield from call.name_until(Markers({"middle": call.marks.middle, "brace": _BRACE}))
    if found is None:
        return False
    name, _, hit = found
    end = hit.match.end if hit.match and hit.name == "middle" else hit.start
    id = hit.match.slots.get("id", "").strip() if hit.match else ""
    if calls.id_prefix:
        # The id ends where the tag behind it begins.
        id = calls.id_prefix + source.text[source.at : end].split("<")[0].strip()
    source.take(end)
    call.output.start_call(name, call.id or id)
    yield from source.skip_space()
    if (yield from source.peek()) != "{":
        call.output.arguments("{}")
    elif not (yield from source.json(call.output.arguments)):
        yield from call.broken()
        return True
    yield from call.end()
    return True
