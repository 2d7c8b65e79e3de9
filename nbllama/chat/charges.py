"""What the widening operations of a template cost, charged before anything is built.

Each function raises ChatError where the budget does not allow the operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

from jinja2.utils import Namespace

from nbllama.chat.budget import ELEMENT_CHARS, current
from nbllama.chat.errors import ChatError

MAX_PADDING = 10_000
MAX_INTEGER_BITS = 4096
MAX_ATTRIBUTES = 20
MAX_PRECISION = 300
_TEXT_FILTERS = frozenset(
    ("capitalize", "center", "e", "escape", "float", "format", "indent", "int", "lower", "replace", "string", "sum")
) | {"title", "trim", "truncate", "upper", "wordcount"}
_BY_ATTRIBUTE = frozenset(["groupby", "join", "map", "max", "min", "rejectattr", "selectattr", "sort", "sum", "unique"])
_NUMBERS = re.compile(r"\d+")


def check_padding(spec: str) -> None:
    if any(len(number) > 5 or int(number) > MAX_PADDING for number in _NUMBERS.findall(spec)):
        raise ChatError("the chat template pads text too far")


def _charge_padding(arguments: Sequence[Any]) -> None:
    for argument in arguments:
        if isinstance(argument, int) and argument > MAX_PADDING:
            raise ChatError("the chat template pads text too far")


def _charge_replace(text: Any, arguments: Sequence[Any]) -> None:
    old, new = (str(argument) for argument in arguments[:2]) if len(arguments) >= 2 else ("", "")
    text = str(text)
    current().charge(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _charge_join(glue: Any, parts: Any) -> None:
    current().charge_expanded(parts)
    if isinstance(parts, Sequence):
        current().charge(len(str(glue)) * len(parts))


def charge_method(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Before a method of a string, list or dict is called: what it may build."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if method in (dict, Namespace):
        current().charge_expanded([*args, *kwargs.values()])
    if isinstance(owner, str):
        if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
            _charge_padding([*args, *kwargs.values()])
            current().charge(len(owner) + (owner.count("\t") * MAX_PADDING if name == "expandtabs" else MAX_PADDING))
        elif name == "replace":
            _charge_replace(owner, [*args, *kwargs.values()])
        elif name == "join" and args:
            _charge_join(owner, args[0])
    elif isinstance(owner, list | dict):
        current().charge_expanded([*args, *kwargs.values()])


def charge_filter(name: str, value: Any, arguments: Sequence[Any]) -> None:
    if name in _TEXT_FILTERS and not isinstance(value, str):
        # Before anything below writes it out to know its length.
        current().charge_expanded(value)
    if name in _BY_ATTRIBUTE:
        _check_attributes(arguments)
    if name in ("center", "indent", "truncate"):
        _charge_padding(arguments)
        lines = str(value).count("\n") + 1 if name == "indent" else 1
        widest = max([0, *(a if isinstance(a, int) else len(str(a)) for a in arguments)])
        current().charge(len(str(value)) + lines * widest)
    elif name == "replace":
        _charge_replace(value, arguments)
    elif name == "format":
        _charge_percent(str(value), list(arguments))
    elif name == "join":
        if isinstance(value, list | tuple | dict):
            _charge_join(arguments[0] if arguments else "", list(value))
    elif name == "round":
        _check_precision(arguments)
    elif name == "from_json":
        # A list of empty lists takes 21 bytes a character.
        current().charge(2 * len(value))
    elif name == "groupby" and isinstance(value, Sized):
        current().charge(ELEMENT_CHARS * len(value))
    elif name in _TEXT_FILTERS:
        current().charge_expanded(value)


def _check_attributes(arguments: Sequence[Any]) -> None:
    """`sort(attribute="a.b,c")` looks each of them up for each element."""
    for argument in arguments:
        if isinstance(argument, str) and argument.count(".") + argument.count(",") > MAX_ATTRIBUTES:
            raise ChatError("the chat template names too many attributes at once")


def _check_precision(arguments: Sequence[Any]) -> None:
    """`round(n, "ceil")` computes 10 ** n."""
    if any(isinstance(argument, int) and abs(argument) > MAX_PRECISION for argument in arguments):
        raise ChatError("the chat template rounds to too many digits")


def _charge_modulo(left: Any, right: Any) -> None:
    if isinstance(left, str):
        _charge_percent(left, right)
    else:
        _charge_other(left, right)


def _charge_percent(template: Any, values: Any) -> None:
    """`"…%s…" % values`: every `%` may bring all of them."""
    if not isinstance(template, str):
        return
    if "*" in template:
        raise ChatError("the chat template pads text too far")
    check_padding(template)
    for _ in range(max(1, template.count("%"))):
        current().charge_expanded(values)


def _charge_plus(left: Any, right: Any) -> None:
    if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        weight = 1 if isinstance(left, str) else ELEMENT_CHARS
        current().charge(weight * (len(left) + len(right)))


def _charge_times(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            current().charge(ELEMENT_CHARS * len(value) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _charge_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def charge_container(container: Any) -> None:
    """Before something is looked for in all of `container`."""
    if isinstance(container, list | tuple | dict | set):
        current().charge(len(container))


def _charge_other(left: Any, right: Any) -> None:
    for value in (left, right):
        if isinstance(value, int):
            _check_bits(value.bit_length())
        elif isinstance(value, Sized):
            # Views of dicts can be subtracted.
            current().charge(ELEMENT_CHARS * len(value))


def _check_bits(bits: int) -> None:
    if bits > MAX_INTEGER_BITS:
        raise ChatError("the chat template computes too large a number")


CHARGE_OPERATOR: dict[str, Callable[[Any, Any], None]] = {
    "+": _charge_plus,
    "*": _charge_times,
    "**": _charge_power,
    "%": _charge_modulo,
    "-": _charge_other,
    "/": _charge_other,
    "//": _charge_other,
}
