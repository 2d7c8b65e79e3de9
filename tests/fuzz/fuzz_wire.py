"""A fuzz target (atheris, libFuzzer) over what strangers send: request bodies, and streams of server-sent events.

`fuzz_wire.py CORPUS… -max_total_time=60` runs it; any libFuzzer option goes. The first byte of an input says what is
fuzzed, the rest is the bytes. Found inputs go to the first folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["nbllama"]):
    from nbllama.wire.errors import InvalidRequest
    from nbllama.wire.requests import CountTokensRequest, parse_count_tokens_request, parse_messages_request
    from nbllama.wire.sse import Decoder, ServerSentEvent

STREAM, LENIENT = b"s", b"l"
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 64,
    0.5,
    "",
    "x",
    " \n",
    "x-anthropic-billing-header: x",
    [],
    {},
    [[]],
    {"type": None},
]


def one_input(data: bytes) -> None:
    """Whatever is sent is an object or one InvalidRequest; however a stream is cut, its events are the same."""
    kind, body = data[:1], data[1:]
    if kind == STREAM:
        check_decoder(body)
    else:
        check_request(body, partial(parse_count_tokens_request, lenient=kind == LENIENT))
        check_request(body, partial(parse_messages_request, lenient=kind == LENIENT))


def check_request(body: bytes, parse: Callable[[bytes], CountTokensRequest]) -> None:
    try:
        request = parse(body)
    except InvalidRequest as error:
        # What the client is told must be writable as JSON and as UTF-8.
        json.dumps(error.body(), ensure_ascii=False).encode()
        assert error.message
        return
    assert request.messages
    json.dumps(request.model_dump(warnings=False), ensure_ascii=False, allow_nan=False).encode()
    # They end up in a header: a client cannot be made to read megabytes of them.
    assert sum(map(len, request.ignored)) < 4096


def check_decoder(stream: bytes) -> None:
    whole = events(stream, len(stream) or 1)
    for size in (1, 2, 3, 7):
        assert events(stream, size) == whole, f"cut every {size} bytes: other events"


def events(stream: bytes, size: int) -> list[ServerSentEvent]:
    decoder = Decoder()
    found = [event for start in range(0, len(stream), size) for event in decoder.feed(stream[start : start + size])]
    return found + decoder.flush()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another input: mostly with one value of its JSON replaced, for few mutations of bytes leave JSON behind."""
    random = Random(seed)
    try:
        value = json.loads(data[1:])
    except (ValueError, RecursionError):
        value = None
    if value is None or random.random() < 0.2:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    path = random.choice(list(paths(value)))
    new = random.choice([*VALUES, *(at(value, other) for other in paths(value))])
    value = replaced(value, path, deepcopy(new))
    return (data[:1] + json.dumps(value).encode())[:max_size]


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a JSON value, the whole first."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from ((key, *path) for path in paths(part))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """`value` with what is at `path` replaced; it is changed in place."""
    if not path:
        return new
    at(value, path[:-1])[path[-1]] = new
    return value


def main() -> None:
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
