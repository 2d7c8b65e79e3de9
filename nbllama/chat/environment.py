"""The sandbox in which a model's template runs: as forgiving as transformers and llama.cpp together, and bounded.

Templates come with the model file, so they are somebody else's code. Jinja's own sandbox keeps them from Python's
internals but lets them double a string until memory ends. Here every loop step, call, filter and output is charged
to a budget; whatever can widen (multiplying, padding, formatting, joining) is charged before it is done.
Deviations from transformers, each because real templates break without it: lists may be appended to (of copies),
undefined values chain, `safe` does nothing, None prints as nothing, `from_json` exists, `tojson` takes generators.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from nbllama.chat.budget import current
from nbllama.chat.charges import CHARGE_OPERATOR, charge_container, charge_filter, charge_method, check_padding
from nbllama.chat.errors import ChatError, TemplateRefused
from nbllama.chat.instrument import instrument

MAX_RANGE = 100_000
MAX_REFUSAL_CHARS = 1000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METHODS: dict[type, frozenset[str]] = {
    str: _names(
        "capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii "
        "isdecimal isdigit isidentifier islower isnumeric isspace istitle isupper join ljust lower lstrip partition "
        "removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith "
        "strip swapcase title upper zfill"
    ),
    list: _names("append clear copy count extend index insert pop remove reverse"),
    dict: _names("clear copy get items keys pop popitem setdefault update values"),
    tuple: _names("count index"),
}
_FILTERS = _names(
    "abs attr capitalize center count d default dictsort e escape first float format groupby indent int items join "
    "last length list lower map max min reject rejectattr replace reverse round select selectattr sort string sum "
    "title trim truncate unique upper wordcount"
)


class _GenerationTag(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}: transformers' mark around the assistant's text, rendered as its body."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Formatter(SandboxedFormatter):
    def convert_field(self, value: Any, conversion: Any) -> Any:
        current().charge_expanded(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        current().step()
        check_padding(format_spec)
        current().charge_expanded(value)
        return super().format_field(value, format_spec)


class BoundedEnvironment(SandboxedEnvironment):
    """Compile and render only inside `budget.spending`."""

    intercepted_binops = frozenset(CHARGE_OPERATOR)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            # Folding constants at compile time would run filters before anything is counted.
            optimized=False,
            extensions=[_GenerationTag, jinja2.ext.loopcontrols],
            undefined=jinja2.ChainableUndefined,
            finalize=_finalize,
            cache_size=0,
        )
        self.filters = {name: _bounded_filter(name, f) for name, f in self.filters.items() if name in _FILTERS}
        self.filters["tojson"] = _bounded_filter("tojson", to_json)
        self.filters["from_json"] = _bounded_filter("from_json", json.loads)
        self.filters["safe"] = _identity
        self.tests = {name: _bounded_test(cast(Callable[..., Any], test)) for name, test in self.tests.items()}
        self.filters["string"] = _bounded_filter("string", _as_text)
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)
        self.globals.update(raise_exception=_refuse, strftime_now=_strftime_now, range=_bounded_range)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return instrument(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind in (str, list, dict, tuple):
            if isinstance(obj, kind):
                return attr in _METHODS[kind]
        if isinstance(obj, int | float | complex | bytes | type):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        template, is_map = str(value.__self__), value.__name__ == "format_map"
        formatter = _Formatter(self)

        def bounded_format(*args: Any, **kwargs: Any) -> str:
            if is_map and args:
                return formatter.vformat(template, (), args[0])
            return formatter.vformat(template, args, kwargs)

        return bounded_format

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        current().step()
        if args and hasattr(args[0], "__next__") and isinstance(getattr(__obj, "__self__", None), str):
            # What `join` gets must be known before it is charged.
            args = (list(args[0]), *args[1:])
        charge_method(__obj, args, kwargs)
        value = super().call(__context, __obj, *args, **kwargs)
        if isinstance(getattr(__obj, "__self__", None), str):
            # `partition` and `split` copy the text into their parts.
            current().charge_expanded(value)
        else:
            current().charge_value(value)
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        CHARGE_OPERATOR[operator](left, right)
        return super().call_binop(context, operator, left, right)

    # Those below are called by the nodes that `instrument` puts into a template.

    def loop_step(self, chars: int) -> bool:
        """Counts a step that writes `chars` constant characters."""
        current().charge(chars)
        return True

    def joined(self, *parts: Any) -> str:
        """The `~` operator."""
        return "".join([_as_text(part) for part in parts])

    def compared(self, outcome: bool) -> bool:
        """A comparison, counted by being a call: one of long lists takes milliseconds."""
        return outcome

    def sliced(self, value: Any, *bounds: Any) -> Any:
        """`value[a:b:c]`, a copy, charged by being a call's value."""
        return value[slice(*bounds)]

    def made(self, container: Any) -> Any:
        """A list or dict literal, charged by all that it refers to: nothing can grow exponentially by nesting."""
        current().charge_expanded(container)
        return container


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: order kept, nothing escaped for HTML. An undefined value is nothing.

    With `ensure_ascii` the private characters of plane 15 stay as they are: they may be this library's own marks.
    """
    if isinstance(value, jinja2.Undefined):
        return ""
    if hasattr(value, "__next__"):
        value = list(value)
    current().charge_expanded(value)
    if isinstance(indent, int) and indent > 16:
        raise ChatError("the chat template indents JSON too far")
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys, default=_jsonable
    )
    return _NON_ASCII.sub(_escaped, text) if ensure_ascii else text


_NON_ASCII = re.compile("[^\x00-\x7f\U000f0000-\U000ffffd]")


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1]


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, jinja2.Undefined) else list(value)


def _refuse(message: Any = "") -> None:
    raise TemplateRefused(_as_text(message)[:MAX_REFUSAL_CHARS])


def _strftime_now(format: str) -> str:
    if len(format) > 200 or any(char.isdigit() for char in format):
        raise ChatError("the chat template asks for a strange date")
    return datetime.datetime.now().strftime(format)


def _bounded_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise ChatError(f"the chat template counts over more than {MAX_RANGE} numbers")
    return numbers


def _identity(value: Any) -> Any:
    return value


@jinja2.pass_context
def _finalize(context: Context, value: Any) -> Any:
    """What `{{ … }}` prints. With the context as argument jinja never calls it at compile time."""
    return _as_text(value)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        current().charge(len(value))
        return str(value)
    current().charge_expanded(value)
    return _WRITTEN_OUT.sub(lambda escape: chr(int(escape.group(1), 16)), str(value))


# Some templates print lists as Python does. That must not write out this library's own marks of plane 15.
_WRITTEN_OUT = re.compile(r"(?<!\\)\\U(000f[0-9a-f]{4})")


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with its cost: one step, what it may widen, and its result. Keeps jinja's own marks on it."""
    n_passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        value, rest = args[n_passed], [*args[n_passed + 1 :], *kwargs.values()]
        current().step()
        if name in _CONSUMING and hasattr(value, "__next__"):
            value = list(value)
            args = (*args[:n_passed], value, *args[n_passed + 1 :])
        charge_filter(name, value, rest)
        result = function(*args, **kwargs)
        if name == "from_json":
            current().charge_expanded(result)
        current().charge_value(result)
        return _counted(result) if hasattr(result, "__next__") else result

    return bounded


_CONSUMING = frozenset(("join", "sum", "groupby", "sort", "string"))
"""Filters that build from all of a generator: what it yields must be known before it is charged."""


def _counted(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        current().step()
        yield value


def _bounded_test(test: Callable[..., Any]) -> Callable[..., Any]:
    """`select("in", …)` runs it for each element."""

    @wraps(test)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        current().step()
        for argument in args:
            charge_container(argument)
        return test(*args, **kwargs)

    return bounded
