"""What holds for every family, whatever comes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbllama.chat.explain import Step
from nbllama.chat.format import Format
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import TextDelta, ToolArgsDelta, ToolStart, ToolStop
from tests.chat.formats import CALLS, FORMATS, TOOLS, complete_calls, joined, parse, words
from tests.chat.linearity import assert_linear

FAMILIES = sorted(FORMATS)


def fragments(name: str) -> st.SearchStrategy[str]:
    """What answers of the family are made of, whole and broken."""
    call = CALLS[name]
    tokens = re.findall(r"<[^<>]*>|[\w.:=]+|\s+|[^\w\s]", call)
    format = FORMATS[name]
    marks = [format.think.open, format.think.close] if format.think else ["<think>", "</think>"]
    odd = [
        *marks,
        *format.swallow,
        "\n",
        " ",
        "{",
        "}",
        '"',
        "'",
        "\\",
        "w",
        "é😀",
        "<",
        "[",
        "]",
        ",",
        ":",
        ">>>",
        "zz",
    ]
    return st.one_of(
        st.sampled_from([call, call.replace("VALUE", "a < b } ] \\n"), call.replace("f", "nobody")]),
        st.integers(1, len(call)).map(lambda n: call[:n]),
        st.integers(0, len(call) - 1).map(lambda n: call[n:]),
        st.sampled_from(tokens),
        st.sampled_from(odd),
        st.text(max_size=3),
    )


def cut(text: str, sizes: list[int]) -> list[str]:
    parts, start = [], 0
    for size in sizes:
        parts.append(text[start : start + size])
        start += size
    return [*parts, text[start:]]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=70)
@given(data=st.data())
def test_what_comes_out_does_not_depend_on_the_cuts(name: str, data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(fragments(name), max_size=8)))
    sizes = data.draw(st.lists(st.integers(0, 9), max_size=30))
    tail = data.draw(st.sampled_from(["", "", *([FORMATS[name].think.open] if FORMATS[name].think else [])]))  # type: ignore[union-attr]
    whole = parse(FORMATS[name], [text], tail)
    assert parse(FORMATS[name], list(text), tail) == whole
    assert parse(FORMATS[name], cut(text, sizes), tail) == whole
    off = parse(FORMATS[name], [text], tail, thinking=False)
    assert parse(FORMATS[name], cut(text, sizes), tail, thinking=False) == off


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=70)
@given(data=st.data())
def test_calls_are_well_formed(name: str, data: st.DataObject) -> None:
    """One after the other, of known tools, never taken back; arguments of complete ones are JSON objects."""
    text = "".join(data.draw(st.lists(fragments(name), max_size=8)))
    open_call, number, arguments = False, 0, ""
    for piece in parse(FORMATS[name], list(text)):
        if isinstance(piece, ToolStart):
            assert not open_call and piece.index == number and piece.name in TOOLS
            open_call, number, arguments = True, number + 1, ""
        elif isinstance(piece, ToolArgsDelta):
            assert open_call and piece.index == number - 1
            arguments += piece.json
        elif isinstance(piece, ToolStop):
            assert open_call and piece.index == number - 1
            open_call = False
            assert not piece.complete or isinstance(json.loads(arguments), dict)
        else:
            assert not open_call
    assert not open_call


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=70)
@given(data=st.data())
def test_no_word_is_lost(name: str, data: st.DataObject) -> None:
    """Numbered words between whole calls, begun and ended markers, calls of nobody: each comes out once, in order."""
    call = CALLS[name]
    beside = st.one_of(
        st.sampled_from([call, "\n", " ", "<", "[", "{", "<|", "</", ">>", "\n\n", "`", "a < b"]),
        st.integers(1, max(1, call.index("f") - 1)).map(lambda n: call[:n]),
        st.integers(1, 12).map(lambda n: call[len(call) - n :]),
    )
    parts = data.draw(st.lists(beside, max_size=8))
    text = "".join(f" w{number}w {part}" for number, part in enumerate(parts)) + " wENDw"
    said = words(parse(FORMATS[name], cut(text, data.draw(st.lists(st.integers(0, 9), max_size=30)))))
    assert re.findall(r"w(?:\d+|END)w", said) == [*(f"w{number}w" for number in range(len(parts))), "wENDw"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_familys_own_call_is_read(name: str) -> None:
    begun = "all\n" if name == "channels in plain text" else ""
    text = CALLS[name] if name == "bare json" else f"{begun}Before.\n{CALLS[name]}"
    pieces = parse(FORMATS[name], list(text))
    assert complete_calls(pieces) == [("f", {"a": "VALUE"})]
    if name != "bare json":
        assert isinstance(pieces[0], TextDelta) and pieces[0].text == "Before."


@pytest.mark.parametrize("name", FAMILIES)
def test_a_call_of_nobody_is_text(name: str) -> None:
    text = CALLS[name].replace('"f"', '"nobody"').replace(">f", ">nobody").replace("=f", "=nobody")
    text = text.replace(".f", ".nobody").replace("[f(", "[nobody(").replace("call:f", "call:nobody")
    pieces = parse(FORMATS[name], list(text))
    assert complete_calls(pieces) == [] and "VALUE" in words(pieces)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_call_that_the_end_cuts_is_marked(name: str) -> None:
    text = CALLS[name][: CALLS[name].index("VALUE") + 3]
    pieces = parse(FORMATS[name], list(text))
    stops = [piece for piece in pieces if isinstance(piece, ToolStop)]
    # Where the id comes last, or a value ends in its own element only, less is certain.
    assert [stop.complete for stop in stops] == [False] and ("VAL" in words(pieces))


UNITS = [
    "<",
    "<tool_call>",
    "[",
    '{"a": ',
    " ",
    "\n",
    "x",
    "</",
    "'",
    '"',
    ">>>",
    "w <|",
    "</parameter>",
    "]<]minimax[>[",
]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("inside", [False, True], ids=["as text", "in a call"])
def test_time_is_linear(name: str, inside: bool) -> None:
    """Units that make a parser hope, one character at a time and at once."""
    begun = CALLS[name][: CALLS[name].index("VALUE")] if inside else ""
    for unit in [*UNITS, CALLS[name], CALLS[name][: CALLS[name].index("VALUE")]]:

        def by_character(size: int, unit: str = unit) -> None:
            parser = StreamParser(FORMATS[name], "", TOOLS)
            parser.feed(begun)
            for char in (unit * (size // len(unit) + 1))[:size]:
                parser.feed(char)
            parser.finish()

        def at_once(size: int, unit: str = unit) -> None:
            parser = StreamParser(FORMATS[name], "", TOOLS)
            parser.feed(begun + (unit * (size // len(unit) + 1))[:size])
            parser.finish()

        assert_linear(by_character, 300)
        assert_linear(at_once, 2_000)


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("end", ["after", "after \n", "<think>so"])
@pytest.mark.parametrize("name", FAMILIES)
def test_explaining_changes_nothing_and_covers_the_text(name: str, end: str, size: int) -> None:
    text = f"Before <tool_call> x {CALLS[name]} {end}"
    steps: list[Step] = []
    parser = StreamParser(FORMATS[name], "", TOOLS, explain=steps.append)
    pieces = [piece for at in range(0, len(text), size) for piece in parser.feed(text[at : at + size])]
    pieces += parser.finish()
    assert joined(pieces) == parse(FORMATS[name], [text])
    assert [piece for step in steps for piece in step.pieces] == pieces
    covered = {place for step in steps for place in range(step.start, step.end)}
    assert not "".join(char for place, char in enumerate(text) if place not in covered).strip()


@example(Format())
@given(st.sampled_from(list(FORMATS.values())))
def test_after_the_end_nothing_comes(format: Format) -> None:
    parser = StreamParser(format, "", TOOLS)
    parser.feed("x")
    parser.finish()
    assert parser.feed("more") == [] and parser.finish() == []


@pytest.mark.parametrize(
    ("family", "name", "text"),
    [
        ("channels in plain text", "allocate", 'allocate\n{"n": 1}'),
        ("channels with tags", "selfie", re.sub('(?<=to=)f|(?<=")f(?=">)', "selfie", CALLS["channels with tags"])),
    ],
)
def test_a_tool_that_is_called_nearly_like_a_channel(family: str, name: str, text: str) -> None:
    assert [call[0] for call in complete_calls(parse(FORMATS[family], [text], tools={name: {}}))] == [name]
