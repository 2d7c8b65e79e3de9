"""With `auto` an answer is free up to a call's marker and cannot leave the tools behind it, in every format."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllama.answer.model_sources import resolve
from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.tools_grammar import tools_grammar
from nbllama.chat.format import Calls, Format
from nbllama.chat.grammar import GrammarGuide, Grammars
from nbllama.chat.schema import prepared
from nbllama.chat.structured import Thinking
from nbllama.engine.llama_vocabulary import LlamaVocabulary
from tests.chat.conftest import NO_TEMPLATES, TEMPLATES
from tests.chat.formats import CALLS, FORMATS, complete_calls, parse
from tests.chat.reference import template_of
from tests.chat.test_enforcing import PREPARED, SCHEMAS, follows, read
from tests.chat.test_grammar import generate, vocabulary


class WithControl:
    """The demo model's vocabulary with a format's markers as further control tokens."""

    def __init__(self, base: LlamaVocabulary, spellings: list[str], ends: list[str]) -> None:
        self._base = base
        self._ids = {text: base.n_tokens + index for index, text in enumerate(spellings)}
        self._ends = {self._ids[text] for text in ends}
        self._spelled = {id: text for text, id in self._ids.items()}
        self._split = re.compile(f"({'|'.join(map(re.escape, spellings))})") if spellings else None
        self.n_tokens = base.n_tokens + len(spellings)

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        if not parse_control or self._split is None:
            return self._base.tokenize(text, parse_control=parse_control)
        ids: list[int] = []
        for part in self._split.split(text):
            ids += [self._ids[part]] if part in self._ids else self._base.tokenize(part, parse_control=True)
        return ids

    def piece(self, token: int) -> bytes:
        return self._spelled[token].encode() if token in self._spelled else self._base.piece(token)

    def is_end_of_generation(self, token: int) -> bool:
        return token in self._ends or (token < self._base.n_tokens and self._base.is_end_of_generation(token))

    def control_tokens(self) -> dict[str, int]:
        return self._base.control_tokens() | self._ids


CONTROL: dict[str, tuple[list[str], list[str]]] = {
    "channels": (
        ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"],
        ["<|call|>", "<|return|>"],
    ),
    "channels with tags": (["<|start|>", "<|message|>", "<|eom|>", "<|eot|>"], ["<|eot|>"]),
    "channels in plain text": (["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], ["<|eot_id|>"]),
    "bare json": (["<|python_tag|>", "<|eot_id|>"], ["<|eot_id|>"]),
    "json in tags": (["<tool_call>", "</tool_call>", "<think>", "</think>"], []),
    "json in a list": (["<TOOLS>", "</TOOLS>"], []),
    "name is key": (["<|p|>"], []),
    "tag and json": (["<|calls|>", "<|/calls|>", "<|call|>", "<|/call|>", "<|args|>"], []),
    "tagged": (["<tool_call>", "</tool_call>"], []),
    "tagged with content": (["<|TEXT|>", "<|/TEXT|>", "<|c|>", "<|/c|>", "<|end|>"], []),
    "pythonic": (["<|tool_call_start|>", "<|tool_call_end|>"], []),
    "literal": (["<|tool_call>", "<tool_call|>", "<|channel>", "<channel|>", '<|"|>'], []),
    "nested": (["]<]minimax[>["], []),
    "text": ([], []),
}
"""By family: the control tokens of its models' vocabularies, and those that end an answer. `text`: none of them."""


@pytest.fixture(scope="module")
def base() -> LlamaVocabulary:
    return vocabulary(str(resolve("demo").path))


@pytest.fixture(scope="module")
def vocabularies(base: LlamaVocabulary) -> dict[str, tuple[WithControl, Grammars]]:
    made = {name: WithControl(base, *tokens) for name, tokens in CONTROL.items()}
    return {name: (tokens, Grammars(tokens, tokens.n_tokens)) for name, tokens in made.items()}


Known = dict[str, tuple[WithControl, Grammars]]


def auto(
    format: Format, grammars: Grammars, tools: Any = None, thinking: Thinking = "none", **fields: Any
) -> GrammarGuide:
    plan = tools_grammar(format, Choice(tools or PREPARED, **fields), thinking, "", grammars.control)
    assert plan.lark is not None and plan.notes == []
    return grammars.guide(plan.lark)


GPT = "<|start|>assistant"
FINAL = "<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>I say to=functions.foo or {name}.<|end|>"
CALL = '{"city": "x", "unit": "c"}'
ATEM = (
    '<atem:function_calls>\n<atem:invoke name="get_weather">\n<atem:parameter name="city">x</atem:parameter>\n'
    '<atem:parameter name="unit">c</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'
)
JSON_CALL = '{"name": "get_weather", "parameters": {"city": "x", "unit": "c"}}'

W, N = "get_weather", "now"
TAKEN: dict[str, list[tuple[str, list[str]]]] = {
    "channels": [
        (f"{ANALYSIS}{GPT}{FINAL}Hello, to=functions.nothing and <b>.", []),
        (f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{CALL}", [W]),
        (f"<|channel|>commentary to=functions.get_weather<|message|>{CALL}", [W]),
        (f" to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{CALL}", [W]),
        (f" to=functions.get_weather<|channel|>commentary json<|message|>{CALL}", [W]),
        (f"{ANALYSIS}{GPT}<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{CALL}", [W]),
        (f"{ANALYSIS}{GPT} to=functions.get_weather<|channel|>commentary json<|message|>{CALL}", [W]),
        (f"<|channel|>commentary<|message|>Hm.<|end|>{GPT}<|channel|>commentary to=functions.now<|message|>{{}}", [N]),
        (f"to=functions.now<|message|>{{}}<|end|>{GPT}{FINAL}So.", [N]),
        (f"to=functions.now<|message|>{{}}<|end|>{GPT} to=functions.now<|message|>{{}}", [N, N]),
        ("<|channel|>commentary to=python<|message|>print(1)", []),
        ("Just text, with no header to=functions.foo.", []),
        ("<|message|>No header to=functions.foo", []),
    ],
    "channels with tags": [
        (f" to=self<|message|>I write to=all of them.<|eom|>{GPT} to=user<|message|>Hello to=foo, <atem:x>.", []),
        (f" to=get_weather<|message|>{ATEM}", [W]),
        (f" to=self<|message|>Hm.<|eom|>{GPT} to=get_weather<|message|>{ATEM}<|eom|>{GPT} to=user<|message|>Yes.", [W]),
        ("Just text, not to=anyone.", []),
    ],
    "channels in plain text": [
        ("all\nHello. In Python one sees >>> x or >>>now, and >>>nothing\n.", []),
        (f">>>get_weather\n{CALL}", [W]),
        (f">>>>get_weather\n{CALL}", [W]),
        (f"get_weather\n{CALL}>>>now\n{{}}", [W, N]),
        (f'all\nLet me look.\n>>> get_weather\n{CALL}\n>>>all\nDone. {{"a": 1}}', [W]),
    ],
    "bare json": [
        ("Hello.", []),
        (JSON_CALL, [W]),
        (f"<|python_tag|>{JSON_CALL}", [W]),
        (JSON_CALL.replace('{"name": ', '{"type": "function", "name": '), [W]),
        (JSON_CALL.replace('{"name": ', '{ "name" :\n'), [W]),
        (f"{JSON_CALL}\n{JSON_CALL}", [W, W]),
        (f"{JSON_CALL} That was a call.", [W]),
        ('{"name": "Ada", "parameters": 3}', []),
        ('{"name": "get_weather_tomorrow", "parameters": 3}', []),
        (f"So I say {JSON_CALL.replace('unit', 'town')}", []),
        ('[{"name": "now"}]', []),
    ],
}
STOPPED = {
    "channels": [
        ("<|channel|>commentary to=functions.", "get_whether<|message|>{}"),
        (f"{ANALYSIS}{GPT} to=functions.", "loot<|message|>{}"),
        ("<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>", "{}"),
        ('to=functions.get_weather<|message|>{"city": "x", "unit": "', "d"),
        (f"to=functions.now<|message|>{{}}<|end|>{GPT} to=functions.", "later<|message|>{}"),
    ],
    "channels with tags": [
        (" to=", "get_whether<|message|>"),
        (" to=get_weather<|message|>", "Well"),
        (f" to=get_weather<|message|>{ATEM.partition('get_weather')[0]}", "now"),
    ],
    "channels in plain text": [
        ("get_weather\n", "{}"),
        ("all\nHello.\n>>>get_weather\n", "so"),
        ('get_weather\n{"city": "x", "unit": "', "d"),
        ("now\n{}", " and"),
    ],
    "bare json": [
        ('{"name": "get_weather"', "}"),
        ('{"type": "function", "name": "get_weather"', ', "arguments"'),
        ('<|python_tag|>{"name": "get_weather", "parameters": ', '{"unit"'),
        (f'{JSON_CALL}\n{{"name":"now"', ', "x"'),
    ],
}


def cases(by_family: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(family, case, kind, id=f"{family} {index} {kind}")
        for family, listed in by_family.items()
        for index, case in enumerate(listed)
        for kind in (family, "text")
    ]


@pytest.mark.parametrize(("family", "case", "kind"), cases(TAKEN))
def test_text_is_free_and_a_call_fits(family: str, case: tuple[str, list[str]], kind: str, vocabularies: Known) -> None:
    text, names = case
    tokens, grammars = vocabularies[kind]
    assert follows(auto(FORMATS[family], grammars), tokens, text) == text
    calls, _, _ = read(FORMATS[family], text)
    assert [name for name, _ in calls] == names


@pytest.mark.parametrize(("family", "case", "kind"), cases(STOPPED))
def test_behind_the_marker_only_what_fits(family: str, case: tuple[str, str], kind: str, vocabularies: Known) -> None:
    begun, wrong = case
    tokens, grammars = vocabularies[kind]
    said = follows(auto(FORMATS[family], grammars), tokens, begun + wrong)
    assert len(begun) - 2 <= len(said) < len(begun + wrong)


IN_TAGS = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
TAGGED = "<function=now>\n</function>"


@pytest.mark.parametrize(
    ("family", "text", "thinking"),
    [
        ("json in tags", f"<think>\nI could <tool_call> it, or {IN_TAGS}.\n</think>\n\nHello.", "possible"),
        ("json in tags", "\n<think>\nA <tool_call>?\n</think>\n\nHello.", "none"),
        ("json in tags", "A <tool_call>?\n</think>\n\nHello.", "open"),
        ("json in tags", f"{IN_TAGS}\n<think>A <tool_call>?</think>\n{IN_TAGS}\nSo.", "possible"),
        ("json in tags", "It said <think>, I think, and </think>.", "possible"),
        (
            "tagged with content",
            '<|THINK|>A <|c|> or <invoke name="now">.<|/THINK|><|TEXT|>Hello.<|/TEXT|>',
            "possible",
        ),
        ("literal", "<|channel>thought\nA <|tool_call>call: it.\n<channel|>Hello.", "possible"),
        ("literal", "<|channel>other", "possible"),
        ("tagged", f"A <function=what> is none. {TAGGED} So.", "none"),
        ("tagged", f"<tool_call>\n{TAGGED}\n</tool_call>\n{TAGGED}\n</tool_call>", "none"),
        ("tagged with content", 'An <invoke name="what">. <invoke name="now"></invoke> So.', "none"),
        ("tag and json", "<|call|>functions.now:0<|args|>{}<|/call|>", "none"),
        ("nested", ']<]minimax[>[<invoke name="now">]<]minimax[>[</invoke>', "none"),
    ],
)
def test_thinking_is_free_and_a_marker_may_lack_its_outer_one(
    family: str, text: str, thinking: Thinking, vocabularies: Known
) -> None:
    for kind in (family, "text"):
        tokens, grammars = vocabularies[kind]
        assert follows(auto(FORMATS[family], grammars, thinking=thinking), tokens, text) == text


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("json in tags", "<think>\nA <tool_call>?\n</think>\n\n<tool_call>\nHm"),
        ("tagged", "Well. <function=now>\nHm"),
        ("literal", "<|channel>thought\nA <|tool_call>.\n<channel|><|tool_call>call:later"),
        ("tagged", "<tool_call>\n<function=later>"),
        ("tagged with content", '<invoke name="get_weather"> Hm'),
        ("tag and json", '<|call|>functions.get_weather:0<|args|>{"unit'),
        ("nested", ']<]minimax[>[<invoke name="get_weather">]<]minimax[>[<unit'),
    ],
)
def test_without_the_outer_marker_a_call_fits_as_well(family: str, text: str, vocabularies: Known) -> None:
    for kind in (family, "text"):
        tokens, grammars = vocabularies[kind]
        said = follows(auto(FORMATS[family], grammars, thinking="possible"), tokens, text)
        assert len(text) - 6 <= len(said) < len(text)


def test_a_value_may_hold_the_text_that_its_closing_tag_begins_with(base: LlamaVocabulary) -> None:
    """Where a token stands inside of tags: `</` alone closes nothing."""
    tokens = WithControl(base, ["%%"], [])
    grammars = Grammars(tokens, tokens.n_tokens)
    tags: dict[str, Any] = {
        "open": '<%%call name="',
        "close": "</%%call>",
        "name_close": '">',
        "value_close": "</%%set>",
    }
    calls = Calls("tagged", section_open="<%%calls>", section_close="</%%calls>", key_open='<%%set name="', **tags)
    format = Format(calls=replace(calls, value_open='">'))
    schema = prepared(
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 20}, "b": {"type": "string"}}}, "s"
    )
    call = '<%%calls><%%call name="f"><%%set name="a"></b></%%set><%%set name="b"><b></b> </</%%set></%%call></%%calls>'
    for text, fits in (
        (f"So. {call}", True),
        (f"So. {call.replace('<%%calls>', '', 1)}", True),
        (call.replace("f", "g"), False),
    ):
        assert (follows(auto(format, grammars, {"f": schema}), tokens, text) == text) == fits


BEGUN = {
    "json in tags": "Well.\n<tool_call>\n",
    "json in a list": "Well.\n<TOOLS>",
    "name is key": "Well.\n<|p|>",
    "bare json": '{"name": "get_weather"',
    "tag and json": "Well.<|calls|>",
    "tagged": "Well.\n<tool_call>\n",
    "tagged with content": "Well.<|c|>",
    "pythonic": "Well.<|tool_call_start|>",
    "literal": "Well.<|tool_call>call:",
    "nested": "Well.]<]minimax[>[<tool_call>",
    "channels": f"<|channel|>analysis<|message|>Well.<|end|>{GPT}<|channel|>commentary to=functions.",
    "channels with tags": " to=",
    "channels in plain text": "all\nWell.\n>>>get_weather\n",
}


@pytest.mark.parametrize("real_tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("family", FORMATS)
def test_behind_a_marker_free_text_is_over(family: str, real_tokens: bool, vocabularies: Known) -> None:
    tokens, grammars = vocabularies[family if real_tokens else "text"]
    begun = BEGUN[family]
    for one in (False, True):
        said = follows(auto(FORMATS[family], grammars, one=one), tokens, f"{begun} you see, this is no call")
        assert begun.strip() in said and len(said) < len(begun) + 4


def begun_and_drawn(guide: GrammarGuide, tokens: Any, begun: str, seed: int) -> str:
    """What a model of random logits writes once it has written `begun`."""
    assert follows(guide, tokens, begun) == begun
    rng = np.random.default_rng(seed)
    closing = np.array([tokens.piece(id)[:1] in b'"]},' for id in range(tokens.n_tokens)], dtype=np.float32)
    data = begun.encode()
    for _ in range(3000):
        if guide.stop:
            break
        row = rng.random(tokens.n_tokens, dtype=np.float32) + 0.7 * closing
        guide.mask(row)
        id = int(np.argmax(row))
        assert row[id] > -np.inf
        if tokens.is_end_of_generation(id):
            break
        guide.accept([id])
        data += tokens.piece(id)
    return data.decode(errors="replace")


@pytest.mark.parametrize("real_tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("family", FORMATS)
def test_a_call_that_is_begun_ends_as_one_that_fits(family: str, real_tokens: bool, vocabularies: Known) -> None:
    tokens, grammars = vocabularies[family if real_tokens else "text"]
    for seed in range(3):
        text = begun_and_drawn(auto(FORMATS[family], grammars, one=True), tokens, BEGUN[family], seed)
        if family == "channels with tags" and re.match(" to=(self|user)", text):
            continue
        ((name, arguments),), _, _ = read(FORMATS[family], text)
        jsonschema.validate(arguments, SCHEMAS[name])


@pytest.mark.parametrize("family", FORMATS)
def test_what_is_no_call_is_never_constrained(family: str, vocabularies: Known) -> None:
    """Any text in which the parser sees no call, and in which no marker of calls stands, is taken to its end."""
    tokens, grammars = vocabularies[family]
    words = [
        "Hello ",
        "to=",
        ">>>",
        "f\n",
        "{",
        '"name": ',
        '"now"',
        "}",
        "\n",
        "<",
        "tool",
        "[",
        ": ",
        "1",
        "all\n",
        "é",
    ]
    marker = BEGUN[family].removeprefix("Well.").strip() if "Well." in BEGUN[family] else "\0"

    @settings(max_examples=40)
    @given(st.lists(st.sampled_from(words), max_size=12))
    def check(parts: list[str]) -> None:
        text = "".join(["Hello: ", *parts])
        if marker not in text:
            assert follows(auto(FORMATS[family], grammars), tokens, text) == text

    check()


@pytest.mark.parametrize("path", TEMPLATES or [NO_TEMPLATES], ids=lambda path: path.stem if path else "none")
def test_every_template_is_constrained_from_its_marker_on(path: Any, base: LlamaVocabulary) -> None:
    format = template_of(path.name).format
    bars = "|\N{FULLWIDTH VERTICAL LINE}"
    spelled = re.findall(rf"<[{bars}][^<>{bars}\s]*[{bars}]>|[{bars}]DSML[{bars}]|\[TOOL_CALLS\]", str(format))
    for control in ([], sorted(set(spelled))):
        tokens = WithControl(base, control, [])
        grammars = Grammars(tokens, tokens.n_tokens)
        free = "Hello, world: {} <b>."
        assert follows(auto(format, grammars), tokens, free) == free
        begins_thinking = format.think is not None and not format.think.open
        call = generate(auto(format, grammars, {N: PREPARED[N]}, forced=True, one=True), tokens, 1)
        before = "" if format.family == "channels" or begins_thinking or not marker_of(format) else "So.\n"
        assert follows(auto(format, grammars), tokens, before + call) == before + call
        wrong = before + call.replace("now", "not_now")
        # Where nothing but a known name tells a call from text, an unknown one is text.
        known_alone = path.stem == "meetkai-functionary-medium-v3.2" or not marker_of(format)
        assert (follows(auto(format, grammars), tokens, wrong) == wrong) == known_alone


def marker_of(format: Format) -> str:
    if format.channels:
        return format.channels.start
    return format.calls.section_open or format.calls.open if format.calls else ""


FEW: dict[str, dict[str, Any]] = {
    "f": {
        "type": "object",
        "properties": {"a": {"enum": ["VALUE", "x"]}, "n": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "g": {"type": "object", "properties": {}, "additionalProperties": False},
}


def may_end(guide: GrammarGuide, tokens: WithControl) -> bool:
    row = np.zeros(tokens.n_tokens, dtype=np.float32)
    guide.mask(row)
    return guide.stop is not None or any(
        row[id] == 0 for id in tokens.control_tokens().values() if tokens.is_end_of_generation(id)
    )


@pytest.mark.parametrize("real_tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("family", FORMATS)
def test_no_call_that_does_not_fit_gets_through(family: str, real_tokens: bool, vocabularies: Known) -> None:
    """A call with parts exchanged, left out and added: where the parser still reads one, it fits or was stopped."""
    tokens, grammars = vocabularies[family if real_tokens else "text"]
    prepared_tools = {name: prepared(schema, name) for name, schema in FEW.items()}
    whole = re.findall(r"<[^<>]*>|[\w.:=]+|\s+|[^\w\s]", CALLS[family])

    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(st.sampled_from(whole), st.integers(0, 99), st.integers(0, 2)), max_size=3), st.booleans()
    )
    def check(changes: list[tuple[str, int, int]], right: bool) -> None:
        parts = list(whole)
        for part, place, n_gone in changes:
            at = place % (len(parts) + 1)
            parts[at : at + n_gone] = [part] * (place % 2)
        text = "".join(parts).replace("VALUE", "VALUE" if right else "WRONG")
        calls = complete_calls(parse(FORMATS[family], [text], tools=FEW))
        guide = auto(FORMATS[family], grammars, prepared_tools, "possible")
        if calls and follows(guide, tokens, text) == text and may_end(guide, tokens):
            for name, arguments in calls:
                jsonschema.validate(arguments, FEW[name])

    check()
