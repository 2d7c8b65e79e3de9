"""Each view of a real record, of a broken one, of a huge one, and of none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from nbllama.answer.parser_steps import ParserSteps
from nbllama.chat.parser import StreamParser
from nbllama.chat.template import ChatTemplate
from nbllama.views.answer_parts import answer_offsets
from nbllama.views.cache import Cache
from nbllama.views.calls import Calls
from nbllama.views.every import NAMES, view_of
from nbllama.views.page import MOST_BYTES, page
from nbllama.views.probabilities import Probabilities
from nbllama.views.reading import Reading
from nbllama.views.step_events import events_of_steps
from nbllama.views.timing import Timing
from nbllama.views.tokens import Tokens
from nbllama.wire.records import RequestRecord
from tests.chat.linearity import assert_linear
from tests.views.asking import WEATHER, Record, asked, records, user

SCRIPT = "<script>alert('x')</script>"
PLAIN = (str, int, float, bool, type(None))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Thinking, a text and a call, streamed, with probabilities."""
    body = asked(
        user("The weather in Paris? ä€🙂"),
        system="Be brief.",
        tools=[WEATHER],
        thinking={"type": "adaptive"},
        stream=True,
    )
    (record,) = records(tmp_path_factory.mktemp("views"), body)
    other = record["output_ids"][0]
    record["probabilities"] = [
        {"logprob": math.log(p), "top": [[id, math.log(p)], [other, -3.0]], "entropy": math.log(2), "forced": n == 2}
        | {"raw_logprob": -1.0, "raw_top": [[other, -0.1]], "removed": 0.75 if n == 2 else None}
        for n, (id, p) in enumerate(zip(record["output_ids"], [0.95, 0.4, 1.0] * 99, strict=False))
    ]
    return record


def tags(html: str) -> set[str]:
    return set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", html))


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_plain_and_html_is_static(name: str, record: Record) -> None:
    view = view_of(name, record)
    rows = view.rows()

    assert rows and all(tuple(row) == view.columns for row in rows)
    assert all(isinstance(value, PLAIN) for row in rows for value in row.values())
    assert tags(view.html()).isdisjoint({"script", "style", "svg", "input", "iframe"})
    assert "var(--" not in view.html() and "class=" not in view.html().partition(">")[2]
    assert view.title in view.text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "broken",
    [
        RequestRecord("req_1", "msg_1", "me", "model", 1.8e9, True),
        {},
        {"prompt_ids": [1, 2], "output_ids": [3], "cached_tokens": 1, "id": "r"},
        {name: "nonsense" for name in RequestRecord.__dataclass_fields__},
        {name: [None, {"a": []}, "x"] for name in RequestRecord.__dataclass_fields__},
        {
            "prompt_ids": [1],
            "pieces": {"x": "zz", "1": None},
            "prompt_offsets": [99],
            "spans": [{"start": 0, "end": 1}],
        },
    ],
    ids=["refused", "empty", "old", "texts", "lists", "offsets"],
)
def test_what_is_missing_is_said_and_never_an_error(name: str, broken: Any) -> None:
    view = view_of(name, broken, before=broken)
    view.rows()
    assert "not recorded" in view.text() or name in ("timing", "cache")
    assert view.html() and page(broken)


def test_tokens_of_a_real_prompt(record: Record) -> None:
    view = Tokens(record, context=4096)
    rows = view.rows()
    prompt, answer = ([row for row in rows if row["part"] == part] for part in ("prompt", "answer"))

    assert b"".join(bytes.fromhex(row["bytes"]) for row in prompt).decode() == record["prompt"]
    assert {row["origin"] for row in prompt} == {"template", "system", "tools", "user"}
    assert "".join(row["piece"] for row in prompt if row["origin"] == "system") == "Be brief."
    assert {row["message"] for row in prompt if row["origin"] == "user"} == {0}
    assert [row["special"] for row in prompt][:2] == [True, False]
    call = "".join(row["piece"] for row in answer if row["origin"] == "answer: tool call")
    assert call.startswith("<tool_call>") and call.endswith("</tool_call>")
    assert "I look it up." in "".join(row["piece"] for row in answer if row["origin"] == "answer: thinking")
    assert sum(count for _, count in view.counts()) == len(rows)
    assert "⟨" in view.html(), "halves of characters are shown as bytes"
    assert "of 4,096 tokens of context are used" in view.text()
    assert f"of {record['n_ctx']:,} tokens of context are used" in Tokens(record).text()
    assert "of context" not in Tokens(record | {"n_ctx": 0}).text()


def test_cached_tokens_are_told_apart(record: Record) -> None:
    view = Tokens(record | {"cached_tokens": 5})
    assert [row["cached"] for row in view.rows()[:7]] == [True] * 5 + [False] * 2
    assert "computed from here" in view.html()


def test_a_call_beside_its_steps_and_events(record: Record) -> None:
    rows = Calls(record).rows()
    by_kind = {row["pieces"].split()[0]: row for row in rows if row["pieces"]}
    kinds = [event["type"] for _, event in record["events"]]

    first, last = map(int, by_kind["ToolStart"]["events"].split("-"))
    assert kinds[first] == "content_block_start" and kinds[last] == "content_block_stop"
    assert {event["index"] for _, event in record["events"][first : last + 1]} == {2}
    assert {event["index"] for _, event in record["events"] if "index" in event} == {0, 1, 2}
    told = " ".join(row["events"] for row in rows if row["events"])
    numbers = [n for part in told.split() for n in _range(part)]
    assert numbers == [n for n, kind in enumerate(kinds) if kind.startswith("content_block")]
    assert by_kind["ThinkStart"]["forced"] in (0, 1)


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize(
    ("arguments", "stands", "said"),
    [
        ('{"name": "get_weather", "arguments": {"city": Paris}}', "Paris", "its input cannot be used"),
        ('{"name": get_weather, "arguments": {}}', "get_weather", "It stayed text"),
        ('{"name": "get_wether", "arguments": {}}', ', "arguments"', "no call of an offered tool"),
    ],
)
def test_where_a_call_failed_to_parse(arguments: str, stands: str, said: str) -> None:
    raw = f"Look:\n<tool_call>\n{arguments}\n</tool_call>\nDone."
    steps = ParserSteps("")
    format = ChatTemplate("", bos="", eos="", control_tokens=()).format
    parser = StreamParser(format, "", {"get_weather": WEATHER["input_schema"]}, explain=steps)
    parser.feed(raw)
    parser.finish()
    view = Calls({"output_text": raw, "parser_steps": steps.rows})

    (failure,) = view.failures
    assert raw[failure.at :].startswith(stands), failure
    assert said in failure.sentence and failure.sentence in view.text()
    assert "⚠" in view.html()


def test_an_answer_that_ends_inside_a_call() -> None:
    raw = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par'
    steps = [{"start": 0, "end": len(raw), "state": "start", "decision": "call", "pieces": ["ToolStart"]}]
    (failure,) = Calls({"output_text": raw, "parser_steps": steps}).failures
    assert failure.at == len(raw) and "ends inside the call" in failure.sentence


def test_the_grammar_is_told_of_as_many_tokens_as_probabilities_are_kept_of(record: Record) -> None:
    rows = Calls(record | {"probabilities": record["probabilities"][:3]}).rows()
    assert [row["removed"] for row in rows if row["removed"]] == [0.75]
    odd = [one | {"removed": "much"} for one in record["probabilities"]]
    assert {row["removed"] for row in Calls(record | {"probabilities": odd}).rows()} <= {None, 0.0}


def test_a_step_without_text_is_not_said_to_be_in_the_prompt(record: Record) -> None:
    n = len(record["output_text"])
    end = {"start": n, "end": n, "state": "text", "decision": "the end", "pieces": []}
    assert "(in the prompt)" not in Calls(record | {"parser_steps": [end]}).html()
    assert "(in the prompt)" in Calls(record | {"parser_steps": [end | {"start": -7, "end": 0}]}).html()


def test_events_are_matched_with_steps_in_one_go() -> None:
    """Each event of a kind that no step made looked through all steps."""

    def match(n: int) -> None:
        steps = [{"start": i, "end": i + 1, "pieces": ["ThinkDelta"]} for i in range(n)]
        events_of_steps("x" * n, steps, [{"type": "content_block_delta", "delta": {"type": "text_delta"}}] * n)

    assert_linear(match, 500)


def test_calls_that_could_be_read_are_no_failures(record: Record) -> None:
    assert Calls(record).failures == []


def test_probabilities_have_the_units_that_the_docs_say(record: Record) -> None:
    view = Probabilities(record)
    rows = view.rows()
    assert (rows[0]["p"], rows[0]["entropy"], rows[0]["rank"]) == (0.95, 1.0, 1)
    assert (rows[2]["forced"], rows[2]["removed"]) == (True, 0.75)
    assert len(view.alternatives()) == 2 * len(rows)
    assert "forced 1 of them" in view.text()
    assert "double" in view.html() and "40%" in view.html()


def test_of_a_long_answer_the_first_probabilities_are_shown(record: Record) -> None:
    view = Probabilities(record | {"probabilities": record["probabilities"][:5]})
    assert len(view.rows()) == 5
    assert f"The first 5 of {len(record['output_ids'])} tokens." in view.text()
    more = record["probabilities"] * 2
    assert Probabilities(record | {"probabilities": more}).rows() == [], "told of others than these tokens"


def test_an_answer_of_one_token_has_no_pace() -> None:
    view = Timing(
        {"id": "r", "output_ids": [1], "timings": {"total_s": 1.0, "decode_s": 0.5, "tokens_per_second": 2.0}}
    )
    assert "2.0 tokens a second." in view.text() and view.html()


def test_the_cache_of_an_older_record_that_names_no_origins(record: Record) -> None:
    old = record | {"prompt_offsets": [], "spans": [], "cached_tokens": 3}
    n = len(record["prompt_ids"])
    assert [(row["origin"], row["tokens"], row["cached"]) for row in Cache(old).rows()] == [("unknown", n, 3)]
    assert Cache(old | {"cached_tokens": n + 9}).rows()[0]["computed"] == 0


def test_one_row_for_each_of_many_requests(record: Record) -> None:
    slow = record | {
        "timings": {"queued_s": 1.0, "prefill_s": 2.0, "first_token_s": 3.0, "decode_s": 1.0, "total_s": 5}
    }
    n = len(record["output_ids"])
    slow["token_times"] = [3 + i / 100 for i in range(n)]
    view = Timing([record, slow, {}])
    rows = view.rows()

    assert len(rows) == 3 and rows[2]["total"] is None
    assert rows[1]["per_token"] == pytest.approx(1 / (n - 1), abs=1e-6)
    assert rows[1]["prefill_tok_s"] == pytest.approx((len(record["prompt_ids"]) - record["cached_tokens"]) / 2, abs=0.1)
    assert [row["gap"] for row in Timing(slow).token_rows()][1:] == pytest.approx([0.01] * (n - 1))
    assert view.html().count("<img") == 1 and Timing(slow).html().count("<img") == 2


def everywhere(value: Any, change: Callable[[Any], Any]) -> Any:
    """A record in which every leaf is changed."""
    if isinstance(value, dict):
        return {name: everywhere(inner, change) for name, inner in value.items()}
    return [everywhere(inner, change) for inner in value] if isinstance(value, list) else change(value)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 10**400, 1e308, -1, -1.5], ids=str)
def test_numbers_that_nobody_can_count_with(odd: Any, record: Record) -> None:
    """JSON files hold them: `Infinity` and integers of 400 digits are read by Python."""
    numbers = (int, float)
    all_odd = everywhere(record, lambda leaf: odd if type(leaf) in numbers else leaf)
    last = record | {"events": [*record["events"], [odd, {"type": "ping"}]], "timings": dict.fromkeys(TIMES, odd)}
    for broken in (all_odd, last, record | {name: all_odd[name] for name in ("probabilities", "parser_steps")}):
        assert page(broken, before=record) and page(record, before=broken)
        for name in NAMES:
            assert view_of(name, broken).text() and view_of(name, broken).rows() is not None


TIMES = ("queued_s", "prefill_s", "first_token_s", "decode_s", "total_s", "tokens_per_second", "decode_steps")


@pytest.mark.parametrize("name", [*NAMES, "page"])
def test_characters_that_act_are_shown_in_every_field(name: str, record: Record) -> None:
    """Half a surrogate pair, which a model's JSON escape can bring, would stop a notebook's output altogether."""
    acting = "\x1b[31m\u202e\r\x00\x9b\ud83e"
    broken = everywhere(record, lambda leaf: leaf + acting if isinstance(leaf, str) else leaf)
    broken |= {"pieces": record["pieces"], "warnings": [acting]}
    cut = broken | {"prompt_ids": []}
    shown = [page(broken, before=record)]
    if name != "page":
        shown = [form() for one in (broken, cut) for view in [view_of(name, one)] for form in (view.html, view.text)]
    assert all(not set(acting.replace("[31m", "")) & set(text) and text.encode() for text in shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_bounded_whoever_made_its_words(name: str, record: Record) -> None:
    broken = everywhere(record, lambda leaf: leaf + "<" * 30_000 if isinstance(leaf, str) else leaf)
    broken |= {"pieces": {id: "3c" * 300 for id in record["pieces"]}, "warnings": ["<" * 100_000] * 9}
    view = view_of(name, broken, before=broken | {"prompt_ids": [1], "model_id": "<" * 100_000})
    assert len(view.html()) < 1_000_000
    assert len(view.text()) < 200_000


def test_characters_without_a_width_are_seen_in_their_tokens(record: Record) -> None:
    piece = "a\u200b\u00a0\U000e0041 é".encode()
    view = Tokens(record | {"pieces": {str(id): piece.hex() for id in record["prompt_ids"]}})
    assert view.prompt[0].shown == "a[U+200B][U+00A0][U+E0041]·é"
    assert view.rows()[0]["piece"] == piece.decode()


def test_where_the_answers_tokens_are_behind_bytes_that_are_no_characters() -> None:
    pieces = {
        1: b"\xff",
        2: "ä".encode()[:1],
        3: "ä".encode()[1:],
        4: b"<think>",
        5: b"sk-secret-1",
        6: b"x",
        7: b"\xe2",
    }
    ids = list(pieces)
    answer = {"output_ids": ids, "pieces": {str(id): piece.hex() for id, piece in pieces.items()}}
    text = "\ufffdä<think>sk-secret-1x"
    for shown in (text, text.replace("sk-secret-1", "•" * 11)):
        assert answer_offsets(Reading({**answer, "output_text": shown})) == [0, 1, 1, 2, 9, 20, 21]
    assert answer_offsets(Reading({**answer, "output_text": ""})) == [0] * 7
    assert answer_offsets(Reading({**answer, "output_ids": [*ids, 99]})) is None


def hostile() -> Record:
    """Markup wherever somebody else writes."""
    call = {"type": "tool_use", "id": SCRIPT, "name": SCRIPT, "input": {SCRIPT: SCRIPT}}
    return {
        **dict.fromkeys(("id", "model", "ending", "message_id"), SCRIPT),
        **{"prompt": SCRIPT, "prompt_ids": [1], "output_ids": [1], "output_text": SCRIPT, "warnings": [SCRIPT]},
        **{"pieces": {"1": SCRIPT.encode().hex()}, "prompt_offsets": [0], "special": [], "cached_tokens": 0},
        "spans": [{"start": 0, "end": 99, "kind": SCRIPT, "message": 0, "block": 0}],
        "events": [
            [0.1, {"type": SCRIPT}],
            [0.2, {"type": "content_block_start", "index": SCRIPT, "content_block": call}],
        ],
        "parser_steps": [{"start": 0, "end": 9, "state": SCRIPT, "decision": SCRIPT, "pieces": [SCRIPT]}],
        "request": {"tools": [{"name": SCRIPT}], "messages": [{"role": SCRIPT, "content": f"/home/{SCRIPT}.txt"}]},
        "message": {"content": [call]},
        "error": {"type": SCRIPT, "message": SCRIPT},
        "reuse": {"source": SCRIPT, "reason": SCRIPT},
        "timings": {"total_s": 1.0},
        "probabilities": [{"logprob": -0.1, "top": [[1, -0.1]], "entropy": 0.1}],
    }


@pytest.mark.parametrize("name", NAMES)
def test_markup_of_others_stays_text(name: str) -> None:
    other = hostile() | {"prompt_ids": [2], "prompt": f"before {SCRIPT}"}
    html = view_of(name, hostile(), before=other).html()
    assert "<script" not in html and "alert(&#x27;x&#x27;)" in html


def test_markup_of_others_stays_text_in_the_page_too() -> None:
    assert "<script" not in page(hostile(), before=hostile() | {"prompt_ids": [2]})


def test_characters_that_act_are_shown(record: Record) -> None:
    piece = "\x1b[31m\u202e".encode()
    view = Tokens(record | {"pieces": {str(id): piece.hex() for id in record["prompt_ids"]}})
    assert "\x1b" not in view.html() + view.text() and "\u202e" not in view.html() + view.text()


def huge(n: int) -> Record:
    prompt = "word " * n
    text = "x" * 100_000
    return {
        **{"id": "req_1", "prompt": prompt, "prompt_ids": [1] * n, "prompt_offsets": list(range(0, 5 * n, 5))},
        **{
            "spans": [{"start": 0, "end": 5 * n, "kind": "user", "message": 0, "block": 0}],
            "pieces": {"1": "776f726420"},
        },
        **{"output_ids": [1] * 20_000, "output_text": text, "special": [], "cached_tokens": 0},
        "events": [
            [n / 100, {"type": "content_block_delta", "index": 0, "delta": {"text": "<" * 500}}] for n in range(9000)
        ],
        "parser_steps": [
            {"start": n, "end": n + 50, "state": "<" * 99, "decision": "&" * 99, "pieces": ["TextDelta"]}
            for n in range(2000)
        ],
        "probabilities": [{"logprob": -0.5, "top": [[1, -0.5]] * 20, "entropy": 0.1}] * 20_000,
        "request": {"messages": [{"role": "user", "content": prompt}]},
    }


def test_a_prompt_of_a_megabyte_is_cut_with_a_count() -> None:
    record = huge(210_000)
    html = Tokens(record).html()
    assert len(html) < 1_000_000
    assert "… 208,500 tokens left out …" in html and "… 18,500 tokens left out …" in html
    assert len(Tokens(record).rows()) == 230_000
    assert len(Tokens(record).text()) < 30_000


@pytest.mark.parametrize("name", NAMES)
def test_every_view_is_bounded(name: str) -> None:
    record = huge(3000)
    view = view_of(name, record, before=record | {"prompt_ids": [1] * 100})
    assert len(view.html()) < 1_500_000
    assert len(view.text()) < 60_000


def test_a_page_is_one_file_of_two_megabytes_at_most() -> None:
    html = page(huge(2000), before=huge(100))
    assert len(html.encode()) <= MOST_BYTES
    assert html.startswith("<!doctype html>") and html.endswith("</html>")


def test_a_page_asks_for_nothing_from_outside(record: Record) -> None:
    html = page(record, before=record, context=4096)
    assert set(re.findall(r"""(?:src|href)=["']([^"'#:]*[:#])""", html)) <= {"data:", "#"}
    assert "http-equiv" in html and "url(" not in html
    assert all(f'id="{name}"' in html for name in NAMES)
    assert json.dumps(record["output_ids"]) not in html
