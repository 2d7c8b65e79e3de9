"""What one rendering may cost: steps, characters and processor time, counted while the template runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace

from nbllama.chat.errors import ChatError

# Real templates take 0.1 to 40 ms and build about three times their input. An element of a list weighs as much as
# eight characters, so that the largest structure stays below 200 MB.
BASE_STEPS = 300_000
BASE_CHARS = 4_000_000
BASE_SECONDS = 0.7
CHARS_PER_INPUT_CHAR = 64
SECONDS_PER_INPUT_CHAR = 2e-6
ELEMENT_CHARS = 8


class Budget:
    """Counts down; what is charged is never given back. Raises ChatError when it is used up. One thread."""

    def __init__(self, input_chars: int) -> None:
        self._steps = BASE_STEPS + input_chars
        self._chars = BASE_CHARS + CHARS_PER_INPUT_CHAR * input_chars
        self._deadline = time.thread_time() + BASE_SECONDS + SECONDS_PER_INPUT_CHAR * input_chars

    def step(self) -> None:
        """One turn of a loop, one call, one filter, one comparison.

        Each looks at the clock (0.3 µs): a single one may take 20 ms, so 32 unseen ones would take most of a second.
        """
        self._steps -= 1
        if self._steps < 0:
            raise ChatError("the chat template takes too many steps")
        if time.thread_time() > self._deadline:
            raise ChatError("the chat template takes too long")

    def charge(self, chars: int) -> None:
        """Room for `chars` characters, before they are built where that can be told."""
        self._chars -= chars
        if self._chars < 0:
            raise ChatError("the chat template builds too much text")

    def charge_value(self, value: Any) -> None:
        """Charges a new value by its own size; what it refers to was charged when it was made."""
        if isinstance(value, str | bytes):
            self.charge(len(value))
        elif isinstance(value, list | tuple | dict | set):
            self.charge(ELEMENT_CHARS * len(value))

    def charge_expanded(self, value: Any) -> None:
        """Charges what `value` would be when written out: a list that holds one list ten times counts it ten times."""
        pending: list[Iterator[Any]] = [iter((value,))]
        while pending:
            part = next(pending[-1], _END)
            if part is _END:
                pending.pop()
            elif isinstance(part, str | bytes):
                self.charge(1 + len(part))
            else:
                self.charge(ELEMENT_CHARS)
                if len(pending) > 200:
                    raise ChatError("the chat template nests too deeply")
                if inner := _parts(part):
                    pending.append(iter(inner))


_END = object()


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (part for item in value.items() for part in item)
    if isinstance(value, Namespace):
        attributes: dict[str, Any] = value._Namespace__attrs
        return attributes.values()
    return value if isinstance(value, list | tuple | set) else ()


_current: ContextVar[Budget | None] = ContextVar("nbllama_template_budget", default=None)


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Everything that the sandbox does inside is charged to `budget`."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Budget:
    """The budget in force; outside of `spending` a small fresh one, so that nothing is ever free."""
    return _current.get() or Budget(0)
