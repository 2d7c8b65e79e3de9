from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllama.chat.format import Format
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import (
    Piece,
    TextDelta,
    ThinkDelta,
    ThinkStart,
    ThinkStop,
    ToolArgsDelta,
    ToolStart,
    ToolStop,
)
from tests.chat.linearity import assert_linear

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def parse(chunks: list[str], tail: str = "", format: Format | None = None) -> list[Piece]:
    """Everything that comes out, neighbours of one kind joined."""
    parser = StreamParser(format or Format(), tail, {"f": {}, "g": {}})
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + parser.finish()
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + piece.text)
        elif isinstance(piece, ThinkDelta) and isinstance(last, ThinkDelta):
            joined[-1] = ThinkDelta(last.text + piece.text)
        elif isinstance(piece, ToolArgsDelta) and isinstance(last, ToolArgsDelta):
            joined[-1] = ToolArgsDelta(piece.index, last.json + piece.json)
        else:
            joined.append(piece)
    return joined


def call(name: str, arguments: str, *, index: int = 0, complete: bool = True) -> list[Piece]:
    return [ToolStart(index, name), ToolArgsDelta(index, arguments), ToolStop(index, complete)]


THOUGHT: list[Piece] = [ThinkStart(), ThinkDelta("hm"), ThinkStop()]

CASES: list[tuple[str, str, list[Piece]]] = [
    ("", "hi there ", [TextDelta("hi there ")]),
    ("", f"Hi\n{CALL}", [TextDelta("Hi"), *call("f", '{"a": 1}')]),
    ("", f"{CALL}\n{CALL} bye", [*call("f", '{"a": 1}'), *call("f", '{"a": 1}', index=1), TextDelta("bye")]),
    ("", "<think>\nhm\n</think>\n\nHi", [*THOUGHT, TextDelta("Hi")]),
    ("", "<think>\n\n</think>\n\nHi", [TextDelta("Hi")]),
    ("", "<think></think><think>hm</think>Hi", [*THOUGHT, TextDelta("Hi")]),
    ("", "the <think> tag", [TextDelta("the <think> tag")]),
    ("", "<think>hm", THOUGHT),
    ("", f"<think>hm {CALL}", [ThinkStart(), ThinkDelta(f"hm {CALL}"), ThinkStop()]),
    ("<think>\n", "hm</think>Hi", [*THOUGHT, TextDelta("Hi")]),
    ("<think>\n\n</think>\n\n", "Hi", [TextDelta("Hi")]),
    ("<think>\n\n</think>\n\nHello", " you", [TextDelta(" you")]),
    ("x <", "b>", [TextDelta("b>")]),
    ("x <tool", '_call>{"name": "f"}', call("f", "{}")),
    ('x <tool_call>{"nam', 'e": "zz"} y', [TextDelta('e": "zz"} y')]),
    ('<tool_call>{"name": "f", "arguments": {"a', '": 1}}', call("f", '{"a": 1}')),
    ("", '<tool_call>{"name": "zz"}</tool_call> x', [TextDelta('<tool_call>{"name": "zz"}</tool_call> x')]),
    ("", '<tool_call>{"name": "f"', call("f", "", complete=False)[::2]),
    ("", '<tool_call>{"na', [TextDelta('<tool_call>{"na')]),
    ("", "a <tool_call> b", [TextDelta("a <tool_call> b")]),
    ("", '<tool_call>{"arguments": {"a": 1}, "name": "f"}', call("f", '{"a": 1}')),
    ("", '<tool_call>{"name": "f", "id": [1, "}"], "arguments": {}}</tool_call>', call("f", "{}")),
    ("", '<tool_call>{"name": "f", "arguments": null}', call("f", "{}")),
    ("", '<tool_call>{"name": "f", "arguments": "{\\"a\\":1}"}', call("f", '{"a":1}')),
    ("", '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>x', [*call("f", '{"a": 1}'), TextDelta("x")]),
    ("", '<tool_call>{"name": "f"}{"name": "g"}</tool_call>', [*call("f", "{}"), *call("g", "{}", index=1)]),
    ("", '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>}"}}', call("f", '{"a": "</tool_call>}"}')),
    ("", '<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}', call("f", '{"a": "x\\ny"}')),
    ("", '<tool_call>{"name": "f", "arguments": {"a": "tr', call("f", '{"a": "tr', complete=False)),
    (
        "",
        '<tool_call>{"name": "f", "arguments": {"a": 1,}}</tool_call>x',
        [*call("f", '{"a": 1,}}', complete=False), TextDelta("x")],
    ),
]


@pytest.mark.parametrize(("tail", "text", "expected"), CASES)
def test_cases_whole_and_by_character(tail: str, text: str, expected: list[Piece]) -> None:
    assert parse([text], tail) == expected
    assert parse(list(text), tail) == expected


def test_without_a_call_format_tags_are_text() -> None:
    assert parse([CALL], format=Format(None, None)) == [TextDelta(CALL)]


def test_arguments_come_out_as_they_are_generated() -> None:
    parser = StreamParser(Format(), "", {"f": {}})
    assert parser.feed('<tool_call>{"name": "f"') == [ToolStart(0, "f")]
    assert parser.feed(', "arguments": {"a": "on') == [ToolArgsDelta(0, '{"a": "on')]
    assert parser.feed("e") == [ToolArgsDelta(0, "e")]


MARKS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool",
    "{",
    "}",
    '"',
    "\\",
    "[",
    "]",
    ",",
    ":",
    "\n",
    " ",
]
WORDS = [
    '"name"',
    '"f"',
    '"zz"',
    '"arguments"',
    '{"name": "f", "arguments": ',
    '{"a": ',
    "1",
    "true",
    "é",
    "\x01",
    CALL,
]
FRAGMENTS = st.sampled_from(MARKS + WORDS)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=3), max_size=25).map("".join)
CALL_TEXTS = st.tuples(TEXTS, TEXTS).map(lambda t: f'{t[0]}<tool_call>{{"name": "f", "arguments": {{{t[1]}')


@given(
    TEXTS | CALL_TEXTS, st.lists(st.integers(0, 200)), st.sampled_from(["", "<think>\n", "a <tool", '<tool_call>{"n'])
)
def test_chunking_does_not_matter(text: str, cuts: list[int], tail: str) -> None:
    ends = sorted(min(cut, len(text)) for cut in cuts)
    chunks = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert parse(chunks, tail) == parse([text], tail) == parse(list(text), tail)


@given(TEXTS | CALL_TEXTS)
def test_calls_are_announced_once_and_complete_ones_are_json(text: str) -> None:
    arguments, n_started, open_call = "", 0, False
    for piece in parse([text]):
        match piece:
            case ToolStart(index, name):
                assert not open_call and index == n_started and name in ("f", "g")
                arguments, n_started, open_call = "", n_started + 1, True
            case ToolArgsDelta(_, part):
                assert open_call
                arguments += part
            case ToolStop(_, complete):
                assert open_call
                open_call = False
                assert complete == is_object(arguments)
            case _:
                assert not open_call
    assert not open_call


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@given(
    st.lists(
        st.sampled_from(["<tool_call>", "</tool_call>", "{", "}", '"', "x", " ", "\n", "é", '"name"']), max_size=40
    )
)
def test_nothing_but_space_is_lost_where_no_call_counts(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(piece.text for piece in parse([text]) if isinstance(piece, TextDelta)) == text


@pytest.mark.parametrize(
    "unit",
    ["<tool_call>x", '<tool_call>{"a":"', "a ", "\n", "<", CALL, '\\"', "<think></think>"],
)
@pytest.mark.parametrize(
    "start", ["", '<tool_call>{"arguments": {"a": "', '<tool_call>{"name": "f", "arguments": {"a": "']
)
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_time_is_linear(start: str, unit: str, size: int) -> None:
    def work(n_chars: int) -> None:
        text = start + (unit * n_chars)[:n_chars]
        parse([text[i : i + size] for i in range(0, len(text), size)])

    assert_linear(work, 2_000)
