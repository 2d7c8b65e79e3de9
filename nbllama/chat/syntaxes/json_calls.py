"""Calls that are JSON objects: `{"name": …, "arguments": {…}}` under any keys, `{name: {…}}`, with or without id."""

from __future__ import annotations

import json

from nbllama.chat.source import Reading
from nbllama.chat.syntaxes.reading import Call

_ARGUMENT_KEYS = ("arguments", "parameters")
_MAX_DEPTH = 4


def read(call: Call) -> Reading[bool]:
    """Keys come in any order; arguments that come before the name wait for it, other keys are dropped."""
    reader = _JsonCall(call)
    yield from call.source.skip_space()
    if (yield from call.source.peek()) != "{":
        return False
    good = yield from reader.object(())
    if not reader.known:
        return False
    reader.announce()
    if not good and not reader.has_arguments:
        yield from call.broken()
        return True
    if not reader.has_arguments:
        call.output.arguments("{}")
    yield from call.end()
    return True


class _JsonCall:
    def __init__(self, call: Call) -> None:
        self._call = call
        self._calls = call.marks.calls
        self._name = ""
        self._id = ""
        self._announced = False
        self._held: list[str] = []
        self.has_arguments = False

    @property
    def known(self) -> bool:
        return self._name in self._call.tools

    def announce(self) -> None:
        """At the latest when the object ends; at the earliest when all that the announcement says is known."""
        if not self._announced:
            self._announced = True
            self._call.output.start_call(self._name, self._id)
            self._call.output.arguments("".join(self._held))
            self._held = []

    def object(self, path: tuple[str, ...]) -> Reading[bool]:
        """From `{` to behind `}`. False where it is no JSON, or can be no call any more."""
        source = self._call.source
        source.take(source.at + 1)
        first = True
        while True:
            yield from source.skip_space()
            char = yield from source.peek()
            if char == "}":
                source.take(source.at + 1)
                return True
            if not first:
                if char != ",":
                    return False
                source.take(source.at + 1)
                yield from source.skip_space()
            first = False
            if not (yield from self._pair(path)):
                return False

    def _pair(self, path: tuple[str, ...]) -> Reading[bool]:
        source = self._call.source
        parts: list[str] = []
        if (yield from source.peek()) != '"' or not (yield from source.json(parts.append)):
            return False
        yield from source.skip_space()
        if (yield from source.peek()) != ":":
            return False
        source.take(source.at + 1)
        yield from source.skip_space()
        return (yield from self._value(path, json.loads("".join(parts))))

    def _value(self, path: tuple[str, ...], key: str) -> Reading[bool]:
        calls, here = self._calls, (*path, key)
        opens = (yield from self._call.source.peek()) == "{"
        if calls.name_is_key and not path and not self._name:
            self._name = key
            return self.known and (yield from self._arguments())
        if not self.has_arguments and here in self._argument_paths() and (opens or here == calls.arguments_path):
            return (yield from self._arguments())
        if opens and len(path) < _MAX_DEPTH and (self._leads_on(here) or key == "function"):
            return (yield from self.object(here if self._leads_on(here) else path))
        return (yield from self._other(here))

    def _argument_paths(self) -> set[tuple[str, ...]]:
        expected = self._calls.arguments_path
        return {expected, *((*expected[:-1], key) for key in _ARGUMENT_KEYS)}

    def _leads_on(self, here: tuple[str, ...]) -> bool:
        paths = (self._calls.name_path, self._calls.arguments_path, self._calls.id_path)
        return any(here == path[: len(here)] and len(here) < len(path) for path in paths)

    def _other(self, here: tuple[str, ...]) -> Reading[bool]:
        """The name, the id, or what nobody needs."""
        parts: list[str] = []
        wanted = here in (self._calls.name_path, self._calls.id_path) or here[-1] == "function"
        if not (yield from self._call.source.json(parts.append if wanted else _forget)):
            return False
        if not wanted:
            return True
        value = json.loads("".join(parts))
        if here == self._calls.id_path:
            self._id = str(value)
        elif not self._name:
            self._name = value if isinstance(value, str) else ""
            if not self.known:
                return False
        if self.known and (self._id or not self._calls.id_path):
            self.announce()
        return True

    def _arguments(self) -> Reading[bool]:
        source, output = self._call.source, self._call.output
        if self.known and not self._calls.id_last:
            self.announce()
        if (yield from source.peek()) != "{":
            return (yield from self._odd_arguments())
        good = yield from source.json(output.arguments if self._announced else self._held.append)
        self.has_arguments = good
        return good

    def _odd_arguments(self) -> Reading[bool]:
        """Null (there are none), or a JSON string that holds the object."""
        parts: list[str] = []
        good = yield from self._call.source.json(parts.append)
        text = _as_object("".join(parts)) if good else None
        arguments = "".join(parts) if text is None else text
        self._held.append(arguments)
        if self._announced:
            self._call.output.arguments("".join(self._held))
            self._held = []
        self.has_arguments = text is not None
        return self.has_arguments


def _forget(_: str) -> None:
    pass


def _as_object(text: str) -> str | None:
    """The JSON text of the object that `text`, itself JSON, stands for."""
    try:
        value = json.loads(text)
        if value is None:
            return "{}"
        if isinstance(value, str) and isinstance(json.loads(value), dict):
            return value
    except (ValueError, RecursionError):
        pass
    return None
