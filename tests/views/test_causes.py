"""Each cause of a prompt that is computed again, on two requests that really differ in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbllama.views.cache import Cache
from nbllama.views.masking import covered_record
from tests.chat.linearity import assert_linear
from tests.views.asking import CLOCK, THOUGHT, WEATHER, Record, asked, assistant, records, user

RULE = "You are a careful assistant who answers in one sentence."
BILLING = "x-anthropic-billing-header: cc_version=2.1; cch={};"
HOISTING = (
    "{% for m in messages if m.role == 'system' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OTHER = HOISTING.replace("}}<|im_end|>", "}}\n<|im_end|>")


def text_blocks(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def schema(*names: str) -> dict[str, Any]:
    return WEATHER | {"input_schema": {"type": "object", "properties": {name: {"type": "string"} for name in names}}}


TURNS = [user("Hi there"), assistant("Hello!"), user("How are you?")]
GROWN = [*TURNS, assistant("Fine."), user("And now?")]

PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "billing_header": (
        asked(*TURNS, system=text_blocks(RULE, BILLING.format("0a1"))),
        asked(*GROWN, system=text_blocks(RULE, BILLING.format("9f7"))),
    ),
    "tool_order": (asked(*TURNS, tools=[WEATHER, CLOCK]), asked(*GROWN, tools=[CLOCK, WEATHER])),
    "tool_keys": (asked(*TURNS, tools=[schema("city", "day")]), asked(*GROWN, tools=[schema("day", "city")])),
    "tools_changed": (asked(*TURNS, tools=[WEATHER]), asked(*GROWN, tools=[WEATHER, CLOCK])),
    "timestamp": (
        asked(*TURNS, system=f"It is 2026-11-25 14:03:12. {RULE}"),
        asked(*GROWN, system=f"It is 2026-11-25 14:09:55. {RULE}"),
    ),
    "random_id": (
        asked(*TURNS, system=f"Session 8f3a2c91. {RULE}"),
        asked(*GROWN, system=f"Session 17bb04de. {RULE}"),
    ),
    "system_changed": (asked(*TURNS, system=RULE), asked(*GROWN, system="Answer in verse, and never briefly.")),
    "edited_history": (asked(*TURNS), asked(user("Good morning"), *GROWN[1:])),
    "history_cut": (asked(*GROWN), asked(*GROWN[2:], assistant("Well."), user("Good."))),
    "answer_rewritten": (asked(user("Hi there")), asked(user("Hi there"), assistant("Hello?"), user("Yes."))),
}


def kept(before: Record, after: Record) -> Record:
    """As if one worker had answered both: what is the same came from its cache."""
    comparison = Cache(after, before).comparison
    assert comparison is not None
    return after | {"cached_tokens": comparison.shared}


def cause(before: Record, after: Record) -> Cache:
    cache = Cache(after, before)
    # Whatever it is, it can be shown.
    assert cache.causes[0].sentence in cache.text()
    assert "What to change" in cache.html() or cache.causes[0].name == "none"
    return cache


@pytest.mark.parametrize("name", PAIRS)
def test_a_cause_is_recognised(name: str, tmp_path: Path) -> None:
    cache = cause(*records(tmp_path, *PAIRS[name]))

    assert [one.name for one in cache.causes] == [name]
    assert cache.comparison is not None and cache.comparison.lost > 0


def test_what_it_says_of_the_place_and_the_loss(tmp_path: Path) -> None:
    before, after = records(tmp_path, *PAIRS["timestamp"])
    after["cached_tokens"], after["timings"] = 10, {"prefill_s": 2.0}
    cache = Cache(after, before)
    comparison = cache.comparison
    assert comparison is not None

    assert after["prompt_ids"][: comparison.shared] == before["prompt_ids"][: comparison.shared]
    assert after["prompt_ids"][comparison.shared] != before["prompt_ids"][comparison.shared]
    assert comparison.where == "system, block 0"
    assert comparison.lost == len(before["prompt_ids"]) - 10
    computed = len(after["prompt_ids"]) - 10
    assert comparison.seconds_lost == pytest.approx(2.0 * comparison.lost / computed, abs=1e-5)
    assert sum(row["tokens"] for row in cache.rows()) == len(after["prompt_ids"])
    assert sum(row["same"] for row in cache.rows()) == comparison.shared
    assert sum(row["cached"] for row in cache.rows()) == 10


def test_a_system_message_that_a_template_moves_to_the_front(tmp_path: Path) -> None:
    """nbllama leaves it in its place: the record says what another server's template would do."""
    before, after = records(
        tmp_path, asked(*TURNS, system=RULE), asked(*GROWN, system=text_blocks(f"{RULE}\n", "Be brief."))
    )
    moved = next(span for span in after["spans"] if span["kind"] == "system" and span["block"] == 1)
    moved |= {"message": 3, "block": 0}
    messages = [*TURNS, {"role": "system", "content": "Be brief."}, user("And now?")]
    after["request"] |= {"system": RULE, "messages": messages}
    cache = cause(before, after)

    assert [one.name for one in cache.causes] == ["hoisted_system"]
    assert "message 3" in cache.causes[0].sentence


def test_a_last_turn_that_goes_on(tmp_path: Path) -> None:
    later = asked(*TURNS, {"role": "system", "content": "Be brief."}, user("And now?"), system=RULE)
    cache = cause(*records(tmp_path, asked(*TURNS, system=RULE), later))
    assert [one.name for one in cache.causes] == ["turn_end"]


def test_a_system_message_that_the_client_moves_to_the_front(tmp_path: Path) -> None:
    cache = cause(*records(tmp_path, asked(*TURNS, system=RULE), asked(*GROWN, system=f"{RULE}\n\nBe brief.")))
    assert [one.name for one in cache.causes] == ["hoisted_system"]


def test_thinking_that_the_client_does_not_send_back(tmp_path: Path) -> None:
    first = asked(user("think"), thinking={"type": "adaptive"})
    later = asked(user("think"), assistant("Hello to you!"), user("Thanks"), thinking={"type": "adaptive"})
    before, after = records(tmp_path, first, later)
    cache = cause(before, after)

    assert THOUGHT in before["output_text"] and THOUGHT not in after["prompt"]
    assert [one.name for one in cache.causes] == ["thinking_dropped"]
    assert "did not send back" in cache.causes[0].sentence


def test_thinking_that_the_template_leaves_out(tmp_path: Path) -> None:
    first = asked(user("think"), thinking={"type": "adaptive"})
    (before,) = records(tmp_path, first)
    back = {"role": "assistant", "content": before["message"]["content"]}
    (after,) = records(tmp_path, asked(user("think"), back, user("Thanks")), chat_template=HOISTING)
    cache = cause(before, kept(before, after))

    assert THOUGHT not in after["prompt"]
    assert [one.name for one in cache.causes] == ["thinking_dropped"]
    assert "template leaves out" in cache.causes[0].sentence


def test_a_setting_that_the_template_writes_down(tmp_path: Path) -> None:
    template = "{% if enable_thinking %}Think first.{% else %}Answer at once.{% endif %}\n" + HOISTING
    first, later = (asked(*TURNS, thinking={"type": kind}) for kind in ("disabled", "adaptive"))
    assert [one.name for one in cause(*records(tmp_path, first, later, chat_template=template)).causes] == ["settings"]


def test_another_template(tmp_path: Path) -> None:
    (before,) = records(tmp_path, asked(*TURNS, system=RULE), chat_template=HOISTING)
    (after,) = records(tmp_path, asked(*GROWN, system=RULE), chat_template=OTHER)
    assert [one.name for one in cause(before, kept(before, after)).causes] == ["other_template"]


def test_another_model(tmp_path: Path) -> None:
    before, after = records(tmp_path, asked(*TURNS), asked(*TURNS, system=RULE))
    assert [one.name for one in cause(before, after | {"model_id": "large"}).causes] == ["other_model"]
    assert [one.name for one in cause(before, after | {"model": "an alias"}).causes] != ["other_model"]
    old = [{**one, "model_id": ""} for one in (before, after)]
    assert [one.name for one in cause(old[0], old[1] | {"model": "large"}).causes] == ["other_model"]


def test_a_template_that_writes_the_date(tmp_path: Path) -> None:
    (before,) = records(tmp_path, asked(*TURNS), chat_template=f"Today is 25 Nov 2026.\n{HOISTING}")
    (after,) = records(tmp_path, asked(*GROWN), chat_template=f"Today is 26 Nov 2026.\n{HOISTING}")
    assert cause(before, kept(before, after)).causes[0].name == "template_date"


def test_eviction(tmp_path: Path) -> None:
    longer = [*TURNS, assistant("Hello!"), user("And now?")]
    before, after = records(tmp_path, asked(*TURNS, system=RULE), asked(*longer, system=RULE))
    after |= {"cached_tokens": 0, "reuse": {"source": "none", "reason": "the prefix was driven out by 3 others"}}
    cache = cause(before, after)

    assert [one.name for one in cache.causes] == ["eviction"]
    assert "driven out by 3 others" in cache.causes[0].sentence


def test_words_that_begin_like_months_are_no_dates(tmp_path: Path) -> None:
    first, later = (asked(*TURNS, system=f"{word} the report. {RULE}") for word in ("Mark", "Decide"))
    assert [one.name for one in cause(*records(tmp_path, first, later)).causes] == ["system_changed"]


def test_a_long_line_of_one_word_is_read_once() -> None:
    """Read again from each hyphen, 40,000 characters took over a minute, in which no stream of the worker moved."""

    def ask(n: int) -> None:
        texts = [f"{start}{'a-' * n}" for start in ("x y", "z y")]
        spans = [{"start": 0, "end": len(texts[0]), "kind": "system"}]
        before, after = ({"prompt": text, "prompt_ids": [ord(text[0]), 2], "spans": spans} for text in texts)
        assert Cache(after, before).causes[0].name == "system_changed"

    assert_linear(ask, 1000)


def test_where_masked_prompts_part_the_tokens_tell(tmp_path: Path) -> None:
    keys = (f"sk-ant-api03-{letter * 20}" for letter in "ab")
    bodies = (asked(user("Hi"), assistant("Hello!"), user(f"My key: {key}, is it right?")) for key in keys)
    before, after = map(covered_record, records(tmp_path, *bodies))
    assert before["prompt"] == after["prompt"]
    comparison = Cache(after, before).comparison
    assert comparison is not None and comparison.where == "user, message 2, block 0"


def test_nothing_was_lost(tmp_path: Path) -> None:
    before, after = records(tmp_path, asked(user("Hi there")), asked(user("Hi there"), assistant("Hello!"), user("Oh")))
    cache = cause(before, after)

    assert [one.name for one in cache.causes] == ["none"]
    assert cache.comparison is not None and cache.comparison.lost == 0


def test_without_an_earlier_request_or_its_tokens(tmp_path: Path) -> None:
    (after,) = records(tmp_path, asked(*TURNS))
    assert "no earlier request to compare with" in Cache(after).text()
    assert "earlier request's tokens: not recorded" in Cache(after, {"id": "cut"}).text()
    assert "tokens: not recorded" in Cache({"id": "cut"}, after).html()
