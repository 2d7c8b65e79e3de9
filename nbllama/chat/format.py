"""How a model writes its answers, as data: the parser reads it, the template's own renderings fill it in.

Every string here is a marker: text that the model writes around something. White space in a marker stands for any
amount of it, also for none. Two words in braces stand for what varies: `{id}` for the call's id, `{any}` for anything
short on one line. A marker that is empty is not there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from nbllama.chat.errors import ChatError

Syntax = Literal["json", "tag_json", "tagged", "pythonic", "literal", "nested"]


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """What stands around the model's thinking. Without `open` an answer begins as thinking."""

    open: str = "<think>"
    close: str = "</think>"


@dataclass(frozen=True, slots=True)
class ContentTags:
    """What stands around the text of an answer, for models that mark it; in channels, the header of such a message."""

    open: str
    close: str = ""


@dataclass(frozen=True, slots=True)
class Calls:
    """What stands around and inside calls. A section holds one or more calls.

    json: `{"name": …, "arguments": {…}}`. tag_json: the name, `middle`, one JSON object. tagged: the name, then each
    argument as `key_open` key `value_open` value `value_close`. pythonic: `[name(key='value')]`. literal: the name and
    `{key:value}` with strings between `quote`s. nested: the arguments are elements named after them.
    """

    syntax: Syntax = "json"
    section_open: str = ""
    section_close: str = ""
    open: str = ""
    close: str = ""
    # json and tag_json: the template writes JSON without spaces
    compact: bool = False
    # json
    array: bool = False
    name_path: tuple[str, ...] = ("name",)
    arguments_path: tuple[str, ...] = ("arguments",)
    id_path: tuple[str, ...] = ()
    id_last: bool = False
    name_is_key: bool = False
    # tag_json: between name and arguments; with `id_prefix` the id is that, the name and what fills the rest
    middle: str = ""
    id_prefix: str = ""
    # tagged and nested
    name_close: str = ""
    key_open: str = ""
    value_open: str = ""
    value_close: str = ""
    cdata: bool = False
    # literal: what stands around a string
    quote: str = ""
    # nested: what stands before every tag
    namespace: str = ""
    # What models write in front of a call although their template does not: dropped if a call follows.
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A message whose header contains `header` is of this kind. `{name}` in it is the tool; the first that fits wins.

    `call`: the body is the call's arguments, one JSON object. `calls`: the body holds calls in the syntax of `Calls`.
    `written` is the whole header as a model is led to write it, where that is more than `header`.
    """

    header: str
    kind: Literal["think", "text", "call", "calls"]
    written: str = ""


@dataclass(frozen=True, slots=True)
class Channels:
    """An answer that is a row of messages, each with a header that says what its body is.

    `start` begins a further message, `header_end` ends its header, `ends` end a body. A header is empty or begins with
    one of `openers`; without these it is just what a route names.
    """

    start: str
    header_end: str
    ends: tuple[str, ...]
    routes: tuple[Route, ...]
    openers: tuple[str, ...] = ()


JSON_IN_TAGS = Calls(open="<tool_call>\n", close="\n</tool_call>")
"""What a model is told to use when its template knows no tools."""


@dataclass(frozen=True, slots=True)
class Format:
    """Without `calls` or `channels` calls are text, without `think` thinking is.

    `header` is what the template writes before an answer. `swallow` are ends of messages and the like, which are
    never shown. `tools_end_think`: a call inside open thinking ends it; else it is part of the thinking.
    """

    think: ThinkTags | None = ThinkTags()
    calls: Calls | None = JSON_IN_TAGS
    content: ContentTags | None = None
    channels: Channels | None = None
    header: str = ""
    swallow: tuple[str, ...] = ()
    tools_end_think: bool = False

    @property
    def family(self) -> str:
        """The syntax of calls in one word; `channels` where messages are routed; `none`."""
        if self.channels:
            return "channels"
        return self.calls.syntax if self.calls else "none"


def to_data(format: Format) -> dict[str, Any]:
    """Plain JSON data with only what differs from an empty description."""
    data = {name: _bare(value) for name, value in asdict(format).items()}
    return {name: value for name, value in data.items() if value}


_KEPT = ("open", "close", "header")


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(part) for key, part in value.items() if part or key in _KEPT} or None
    return [_bare(part) for part in value] if isinstance(value, tuple) else value


def from_data(data: Any) -> Format:
    """The reverse of `to_data`. Raises ChatError that names what is wrong."""
    known = _checked(data, Format, "format")
    parts: dict[str, Any] = {"think": None, "calls": None}
    for name, kind in (("think", ThinkTags), ("content", ContentTags), ("calls", Calls), ("channels", Channels)):
        if known.get(name) is not None:
            parts[name] = _part(known[name], kind, f"format.{name}")
    return Format(**{**_tuples(known), **parts})


def _part(data: Any, kind: type[Any], path: str) -> Any:
    known = _checked(data, kind, path)
    if kind is Calls and known.get("syntax", "json") not in get_args(Syntax):
        raise ChatError(f"{path}.syntax: is none of {', '.join(get_args(Syntax))}")
    if kind is Channels:
        routes = known.get("routes", [])
        known["routes"] = [Route(**_checked(route, Route, f"{path}.routes")) for route in routes]
    try:
        return kind(**_tuples(known))
    except TypeError as error:
        raise ChatError(f"{path}: {error}") from error


def _checked(data: Any, kind: type[Any], path: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ChatError(f"{path}: should be an object")
    for key in data:
        if key not in {field.name for field in fields(kind)}:
            raise ChatError(f"{path}.{key}: no such part of a format")
    return dict(data)


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
