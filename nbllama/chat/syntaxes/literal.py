"""Calls as a name and a literal with bare keys: `get_weather{city:<|"|>Paris<|"|>,days:3}`."""

from __future__ import annotations

from nbllama.chat.markers import Marker, Markers
from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.loose import LooseValue
from nbllama.chat.syntaxes.reading import Call

_BRACE = Markers({"brace": Marker("{")})


def read(call: Call) -> Reading[bool]:
    found = yield from call.name_until(_BRACE)
    if found is None:
        return False
    call.source.take(found[2].start)
    call.output.start_call(found[0], call.id)
    if (yield from LooseValue(call.source, call.output.arguments, call.marks.calls.quote).read()):
        yield from call.end()
    elif call.source.ended and call.source.empty:
        call.output.stop_call()
    else:
        yield from call.broken()
    return True
