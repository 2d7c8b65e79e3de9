"""What makes two requests the same, and how a difference is told."""

from __future__ import annotations

import copy
import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllama.cassettes.same_request import differences, key, normalised

NAMES = st.sampled_from(["city", "path", "password", "cache_control", "stream", "id", "n"])
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "read /home/ann/data/x.csv now",
            "sk-abcdefghijkl/home/ann/x",
            "password=hunter2hunter2/etc/passwd/x",
            "x-anthropic-billing-header: cc_version=1",
            "x-anthropic-billing-header: a\nx-anthropic-billing-header: b\nYou help.",
            "write to ann@example.org or bob@example.org/a/b",
            "••• is covered, Bearer abcdefghijkl",
        ]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([0.5, 1.0, 2.0]), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
IDS = st.sampled_from(["toolu_1", "toolu_2", "call 2", "toolu_3"])
TEXT_BLOCKS = st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})
CONTENTS = st.one_of(
    TEXTS,
    st.lists(
        st.one_of(
            TEXT_BLOCKS,
            st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXTS, "signature": TEXTS}),
            st.fixed_dictionaries(
                {
                    "type": st.just("tool_use"),
                    "id": IDS,
                    "name": st.just("f"),
                    "input": st.dictionaries(NAMES, VALUES, max_size=3),
                }
            ),
            st.fixed_dictionaries(
                {
                    "type": st.just("tool_result"),
                    "tool_use_id": IDS,
                    "content": st.one_of(TEXTS, st.lists(TEXT_BLOCKS, max_size=2)),
                }
            ),
        ),
        max_size=3,
    ),
)
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["a", "b"]),
        "max_tokens": st.integers(1, 3),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS}), max_size=3
        ),
    },
    optional={
        "system": st.one_of(TEXTS, st.lists(TEXT_BLOCKS, max_size=3)),
        "temperature": st.sampled_from([0, 1, 1.0, 0.5, None]),
        "tools": st.lists(
            st.fixed_dictionaries({"name": st.just("f"), "input_schema": st.dictionaries(NAMES, VALUES, max_size=2)}),
            max_size=2,
        ),
        "metadata": st.dictionaries(st.just("user_id"), TEXTS),
        "stream": st.booleans(),
    },
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_normalising_twice_is_normalising_once(request: dict[str, Any]) -> None:
    once = normalised(request)
    assert normalised(once) == once
    assert key(once) == key(request)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers())
def test_what_differs_by_itself_does_not_count(request: dict[str, Any], seed: int) -> None:
    assert key(respelled(request, random.Random(seed))) == key(request)


def respelled(request: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The same request as another client, on another day, would send it."""
    ids: dict[str, str] = {}

    def renamed(id: str) -> str:
        return ids.setdefault(id, f"toolu_{len(ids)}" + "".join(chance.choices(string.ascii_letters, k=8)))

    def block(old: dict[str, Any]) -> dict[str, Any]:
        new = dict(old)
        for name in ("id", "tool_use_id"):
            if name in new:
                new[name] = renamed(new[name])
        if "signature" in new:
            new["signature"] = str(chance.random())
        if new["type"] == "tool_result":
            new["content"] = content(new["content"])
        if chance.random() < 0.5:
            new["cache_control"] = {"type": "ephemeral"}
        return shuffled(new)

    def content(old: Any) -> Any:
        if isinstance(old, str):
            return [block({"type": "text", "text": old})] if old and chance.random() < 0.5 else old
        return [block(one) for one in old]

    def shuffled(value: dict[str, Any]) -> dict[str, Any]:
        names = list(value)
        chance.shuffle(names)
        return {name: value[name] for name in names}

    new = copy.deepcopy(request)
    new["messages"] = [shuffled({**one, "content": content(one["content"])}) for one in new["messages"]]
    if "system" in new:
        billing = {"type": "text", "text": f"x-anthropic-billing-header: cch={chance.random()}"}
        blocks = content(new["system"])
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) and blocks else blocks or []
        new["system"] = [billing, *blocks] if chance.random() < 0.5 else new["system"]
    new["tools"] = [{**tool, "type": "custom", "cache_control": {"type": "ephemeral"}} for tool in new.get("tools", ())]
    if "tools" not in request:
        del new["tools"]
    new |= {"model": "other", "stream": chance.random() < 0.5, "metadata": {"user_id": str(chance.random())}}
    return shuffled({**new, "top_k": None})


def asking(text: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize(
    "other",
    [
        asking("hi", max_tokens=10),
        asking("ho"),
        asking("hi", system="s"),
        asking("hi", temperature=0.5),
        asking("hi", tools=[{"name": "f", "input_schema": {}}]),
        asking("hi", nbllama={"seed": 1}),
        asking([{"type": "text", "text": "hi"}, {"type": "text", "text": "hi"}]),
    ],
)
def test_what_makes_the_answer_counts(other: dict[str, Any]) -> None:
    assert key(other) != key(asking("hi"))


def test_paths_and_keys_of_another_machine_do_not_count() -> None:
    assert key(asking("read /home/ann/data.csv")) == key(asking("read /home/bob/lessons/data.csv"))
    assert key(asking("key sk-abcdefghijkl")) == key(asking("key sk-abcdefghijklmnop"))
    assert key(asking("to ann@example.org")) == key(asking("to b@c.example"))
    assert key(asking("read data.csv")) != key(asking("read other.csv"))


def test_which_call_a_result_belongs_to_counts() -> None:
    def results(*ids: str) -> dict[str, Any]:
        calls: list[Any] = [{"type": "tool_use", "id": id, "name": "f", "input": {}} for id in ("toolu_a", "toolu_b")]
        content = [{"type": "tool_result", "tool_use_id": id, "content": str(n)} for n, id in enumerate(ids)]
        return asking("hi") | {
            "messages": [{"role": "assistant", "content": calls}, {"role": "user", "content": content}]
        }

    assert key(results("toolu_a", "toolu_b")) != key(results("toolu_b", "toolu_a"))


def test_a_difference_is_named_and_shown_where_it_begins() -> None:
    before = "A long text that both of them begin with, and which nobody wants to read again. " * 3
    one, other = normalised(asking(before + "Paris", system="s")), normalised(asking(before + "Rome"))
    found = differences(one, other)

    assert [difference.field for difference in found] == ["system.0.text", "system.0.type", "messages.0.content.0.text"]
    assert found[0].shown() == ('"s"', "nothing")
    recorded, requested = found[2].shown()
    assert "Paris" in recorded and "Rome" in requested
    assert len(recorded) < 90 and recorded.startswith("…")
