"""One format of each family, and what models of the family write."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from nbllama.chat.deriving.described import DESCRIPTIONS
from nbllama.chat.format import Calls, ContentTags, Format, ThinkTags
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ToolArgsDelta, ToolStart, ToolStop


def _described(name: str) -> Format:
    return next(one.format for one in DESCRIPTIONS if name in one.why)


FORMATS: dict[str, Format] = {
    "json in tags": Format(),
    "json in a list": Format(
        calls=Calls(section_open="<TOOLS>", section_close="</TOOLS>", array=True, id_path=("id",), id_last=True)
    ),
    "name is key": Format(think=None, calls=Calls(section_open="<|p|>", array=True, name_is_key=True)),
    "bare json": Format(think=None, calls=Calls(arguments_path=("parameters",), lead="<|python_tag|>")),
    "tag and json": Format(
        calls=Calls(
            "tag_json",
            section_open="<|calls|>",
            section_close="<|/calls|>",
            open="<|call|>functions.",
            middle=":{any}<|args|>",
            close="<|/call|>",
            id_prefix="functions.",
        ),
        tools_end_think=True,
    ),
    "tagged": Format(
        calls=Calls(
            "tagged",
            open="<tool_call>\n<function=",
            close="\n</function>\n</tool_call>",
            name_close=">",
            key_open="\n<parameter=",
            value_open=">\n",
            value_close="\n</parameter>",
        ),
        tools_end_think=True,
    ),
    "tagged with content": Format(
        content=ContentTags("<|TEXT|>", "<|/TEXT|>"),
        think=ThinkTags("<|THINK|>", "<|/THINK|>"),
        calls=Calls(
            "tagged",
            section_open="<|c|>",
            section_close="<|/c|>",
            open='<invoke name="',
            close="</invoke>",
            name_close='">',
            key_open='<arg name="',
            value_open='" string="{any}">',
            value_close="</arg>",
        ),
        swallow=("<|end|>",),
    ),
    "pythonic": _described("LFM2"),
    "literal": _described("Gemma"),
    "nested": _described("MiniMax"),
    "channels": _described("gpt-oss"),
    "channels with tags": _described("Muse"),
    "channels in plain text": _described("Functionary"),
}

TOOLS: dict[str, Any] = {
    "f": {"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}, "x": {}}},
    "g": {"type": "object", "properties": {}},
}

CALLS: dict[str, str] = {
    "json in tags": '<tool_call>\n{"name": "f", "arguments": {"a": "VALUE"}}\n</tool_call>',
    "json in a list": '<TOOLS>[{"name": "f", "arguments": {"a": "VALUE"}, "id": "i1"}]</TOOLS>',
    "name is key": '<|p|>[{"f": {"a": "VALUE"}}]',
    "bare json": '{"name": "f", "parameters": {"a": "VALUE"}}',
    "tag and json": '<|calls|><|call|>functions.f:0<|args|>{"a": "VALUE"}<|/call|><|/calls|>',
    "tagged": "<tool_call>\n<function=f>\n<parameter=a>\nVALUE\n</parameter>\n</function>\n</tool_call>",
    "tagged with content": '<|c|><invoke name="f"><arg name="a" string="true">VALUE</arg></invoke><|/c|>',
    "pythonic": "<|tool_call_start|>[f(a='VALUE')]<|tool_call_end|>",
    "literal": '<|tool_call>call:f{a:<|"|>VALUE<|"|>}<tool_call|>',
    "nested": ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="f">]<]minimax[>[<a>VALUE]<]minimax[>[</a>'
    "]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
    "channels": '<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": "VALUE"}<|call|>',
    "channels with tags": '<|start|>assistant to=f<|message|><atem:function_calls>\n<atem:invoke name="f">\n'
    '<atem:parameter name="a">VALUE</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>',
    "channels in plain text": '>>>f\n{"a": "VALUE"}',
}


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one kind as one."""
    result: list[Piece] = []
    for kind, group in itertools.groupby(pieces, key=lambda piece: (type(piece), getattr(piece, "index", None))):
        parts = list(group)
        if kind[0] is TextDelta:
            result.append(TextDelta("".join(part.text for part in parts if isinstance(part, TextDelta))))
        elif kind[0] is ThinkDelta:
            result.append(ThinkDelta("".join(part.text for part in parts if isinstance(part, ThinkDelta))))
        elif kind[0] is ToolArgsDelta and isinstance(parts[0], ToolArgsDelta):
            text = "".join(part.json for part in parts if isinstance(part, ToolArgsDelta))
            result.append(ToolArgsDelta(parts[0].index, text))
        else:
            result += parts
    return result


def parse(
    format: Format, chunks: Iterable[str], tail: str = "", tools: Any = None, thinking: bool = True
) -> list[Piece]:
    """All pieces, joined."""
    parser = StreamParser(format, tail, TOOLS if tools is None else tools, thinking=thinking)
    return joined([piece for chunk in chunks for piece in parser.feed(chunk)] + parser.finish())


def words(pieces: Iterable[Piece]) -> str:
    """All that was said, in order."""
    return "".join(getattr(piece, "text", "") or getattr(piece, "json", "") for piece in pieces)


def complete_calls(pieces: Iterable[Piece]) -> list[tuple[str, Any]]:
    """(name, arguments) of each; arguments of a call that is not complete as None."""
    calls: list[tuple[str, Any]] = []
    text = ""
    for piece in pieces:
        if isinstance(piece, ToolStart):
            calls.append((piece.name, None))
            text = ""
        elif isinstance(piece, ToolArgsDelta):
            text += piece.json
        elif isinstance(piece, ToolStop) and piece.complete:
            calls[-1] = (calls[-1][0], json.loads(text))
    return calls
