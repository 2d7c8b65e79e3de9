"""Every template renders every shape of conversation, and nothing that was said is missing."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nbllama.chat.capabilities import Capabilities
from nbllama.chat.errors import TemplateFailed, TemplateRefused, UnsupportedContent
from nbllama.chat.reshaping import reshaped
from nbllama.chat.template import ChatTemplate
from nbllama.wire.requests import MessagesRequest, parse_messages_request

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
THINKING = {"type": "enabled", "budget_tokens": 1024}
WEATHER = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def assistant(*content: Any) -> dict[str, Any]:
    return user(*content) | {"role": "assistant"}


def call(number: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "get_weather", "input": {"city": f"City{number}"}}


def result(number: int) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": f"Result{number}"}


HISTORY = [user("Question"), assistant(call(1)), user(result(1))]
NEW_RULES = {"role": "system", "content": "New rules"}
THOUGHT = {"type": "thinking", "thinking": "A thought", "signature": "s"}
# Name → (the request, what its prompt must hold, in this order).
SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": ({"messages": [user("Question")]}, ["Question"]),
    "system": ({"system": "Rules", "messages": [user("Question")]}, []),
    "thinking": ({"thinking": THINKING, "messages": [user("Question")]}, ["Question"]),
    "no tools left": ({"messages": HISTORY}, ["Question", "City1", "Result1"]),
    "call and result": ({"tools": [WEATHER], "messages": HISTORY}, ["Question", "City1", "Result1"]),
    "text and call": (
        {"tools": [WEATHER], "messages": [user("Question"), assistant("Let me look.", call(1)), user(result(1))]},
        ["Question", "City1", "Result1"],
    ),
    "thinking and call": (
        {"thinking": THINKING, "tools": [WEATHER], "messages": [HISTORY[0], assistant(THOUGHT, call(1)), HISTORY[2]]},
        ["Question", "City1", "Result1"],
    ),
    "several calls": (
        {"tools": [WEATHER], "messages": [user("Question"), assistant(call(1), call(2)), user(result(1), result(2))]},
        ["Question", "City1", "City2", "Result2"],
    ),
    "text after results": (
        {"tools": [WEATHER], "messages": [user("Question"), assistant(call(1)), user(result(1), "More words")]},
        ["Question", "City1", "Result1", "More words"],
    ),
    "a call, an answer, and on": (
        {"tools": [WEATHER], "messages": [*HISTORY, assistant("An answer"), user("More words")]},
        ["Question", "City1", "Result1", "An answer", "More words"],
    ),
    "system in the middle": (
        {"system": "Rules", "messages": [user("Question"), assistant("An answer"), NEW_RULES, user("More words")]},
        ["Question", "An answer", "New rules", "More words"],
    ),
    "the assistant first": ({"messages": [assistant("An answer"), user("Question")]}, ["An answer", "Question"]),
    "roles in a row": (
        {"messages": [user("Question"), user("More words"), assistant("An answer"), assistant("and on"), user("Last")]},
        ["Question", "More words", "An answer", "and on", "Last"],
    ),
    "prefill": ({"messages": [user("Question"), assistant("Sure:")]}, ["Question", "Sure:"]),
    "an image": ({"messages": [user("Question", IMAGE)]}, ["Question"]),
}  # fmt: skip


@cache
def understood(path: Path) -> ChatTemplate:
    return ChatTemplate(path.read_text(), bos="<s>", eos="</s>", control_tokens=["<|im_end|>", "</s>"])


def request_of(body: dict[str, Any]) -> MessagesRequest:
    return parse_messages_request(json.dumps({"model": "m", "max_tokens": 10_000} | body).encode())


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_that_was_said_is_in_the_prompt_in_its_order(real_template: Path, shape: str) -> None:
    body, wanted = SHAPES[shape]
    prompt = understood(real_template).render(request_of(body), images=True)
    place = 0
    for word in wanted:
        place = prompt.text.find(word, place)
        assert place >= 0, f"{word} is missing in {prompt.text}"
    assert body.get("system", "") in prompt.text
    assert "".join(segment.text for segment in prompt.segments) == prompt.text


def test_an_image_has_a_placeholder(real_template: Path) -> None:
    """The template's own, or a word; and a model that sees none is not asked about it."""
    template = understood(real_template)
    with_image, without = (request_of({"messages": [user(*content)]}) for content in (["See", IMAGE], ["See"]))
    assert template.render(with_image, images=True).text != template.render(without).text
    with pytest.raises(UnsupportedContent):
        template.render(with_image)


def test_thinking_is_told_as_a_part_where_it_is_no_field(real_template: Path) -> None:
    template = understood(real_template)
    if not template._can.reasoning_parts:
        assert real_template.stem not in PARTS
        return
    assert real_template.stem in PARTS
    prompt = template.render(request_of({"messages": [user("Q"), assistant(THOUGHT, "An answer"), user("More")]}))
    assert 0 < prompt.text.find("A thought") < prompt.text.find("An answer")


PARTS = {"mistralai-Ministral-3-14B-Reasoning-2512"}


def test_a_template_that_breaks_on_a_request_says_so() -> None:
    source = "{% for m in messages %}{{ m.content }}{% if m.content == 'break' %}{{ 1 + '' }}{% endif %}{% endfor %}"
    template = ChatTemplate(source, bos="", eos="", control_tokens=())
    with pytest.raises(TemplateFailed, match="TypeError"):
        template.render(request_of({"messages": [user("break")]}))


def test_a_refusal_is_in_the_templates_words() -> None:
    refusing = "{% if m.content == 'x' %}{{ raise_exception('No x here') }}{% endif %}"
    source = "{% for m in messages %}" + refusing + "{{ m.content }}{% endfor %}"
    template = ChatTemplate(source, bos="", eos="", control_tokens=())
    with pytest.raises(TemplateRefused, match=r"^No x here$"):
        template.render(request_of({"messages": [user("x")]}))


def test_what_a_template_takes_is_not_reshaped() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [{"id": "1"}, {"id": "2"}]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    ]
    assert reshaped(messages, Capabilities(two_calls=True)) == messages


def test_results_follow_their_calls_one_by_one() -> None:
    calls = [{"id": str(number)} for number in range(3)]
    results = [{"role": "tool", "tool_call_id": str(number), "content": f"r{number}"} for number in (2, 0, 1)]
    begun: dict[str, Any] = {"role": "assistant", "content": "t", "tool_calls": calls}
    shaped = reshaped([begun, *results, {"role": "user", "content": "u"}], Capabilities(two_calls=False))
    told = [(m["role"], m.get("content"), [c["id"] for c in m.get("tool_calls", [])]) for m in shaped]
    assert told == [
        ("assistant", "t", ["0"]), ("tool", "r0", []), ("assistant", "", ["1"]), ("tool", "r1", []),
        ("assistant", "", ["2"]), ("tool", "r2", []), ("user", "u", []),
    ]  # fmt: skip
