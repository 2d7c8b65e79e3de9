"""Blocks that are no plain text: what the model reads of each, and where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbllama.chat.errors import UnsupportedContent
from nbllama.chat.template import ChatTemplate
from nbllama.wire.requests import parse_messages_request

ASK: dict[str, Any] = {"role": "user", "content": "question"}
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}, "input_examples": [{"at": "sky"}]}


def prompt(*messages: dict[str, Any], **fields: Any) -> str:
    template = ChatTemplate("", bos="", eos="<|im_end|>", control_tokens=["<|im_start|>", "<|im_end|>"])
    body = {"model": "m", "max_tokens": 9, "messages": list(messages)} | fields
    return template.render(parse_messages_request(json.dumps(body).encode())).text


def test_what_another_server_ran_is_readable() -> None:
    call = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "moon"}}
    page = {"type": "web_search_result", "url": "https://m.example", "title": "Moon", "encrypted_content": "SEALED"}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [page]}
    text = prompt(ASK, {"role": "assistant", "content": [call, found, {"type": "text", "text": "It is far."}]}, ASK)

    assert text.index('web_search was called with {"query": "moon"}') < text.index("url: https://m.example")
    assert text.index("title: Moon") < text.index("It is far.")
    assert "SEALED" not in text


def test_a_compaction_stands_for_what_was_before_it() -> None:
    old = {"role": "assistant", "content": "old answer"}
    blocks = [{"type": "compaction", "content": "we spoke of cats"}, {"type": "text", "text": "and then"}]
    text = prompt({"role": "user", "content": "old question"}, old, ASK, {"role": "assistant", "content": blocks}, ASK)

    assert "old" not in text
    assert text.index("we spoke of cats") < text.index("and then") < text.index("question")
    nothing = [{"type": "compaction", "content": None}, {"type": "text", "text": "and then"}]
    assert "old answer" in prompt(ASK, old, ASK, {"role": "assistant", "content": nothing}, ASK)


def test_a_note_until_the_next_user_message_is_gone_after_it() -> None:
    note = {"role": "system", "content": "only now", "clear_at": "next_user_message"}

    assert "only now" in prompt(ASK, note)
    assert "only now" not in prompt(ASK, note, {"role": "assistant", "content": "yes"}, ASK)


def test_examples_of_a_tool_are_shown() -> None:
    assert '{\\"at\\": \\"sky\\"}' in prompt(ASK, tools=[TOOL])


def test_a_reference_to_a_tool_is_said_in_words() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
    reference = {"type": "tool_reference", "tool_name": "later"}
    answer = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [reference]}]}
    later = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}
    text = prompt(ASK, call, answer, tools=[TOOL, later])

    assert "The tool later is available now." in text
    assert '"name": "later"' in text


def test_breakpoints_change_nothing() -> None:
    marked = {"role": "user", "content": [{"type": "text", "text": "question", "cache_control": {"type": "ephemeral"}}]}

    assert prompt(marked) == prompt(ASK)


def test_an_image_is_refused_by_what_is_missing() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x.example"}}
    with pytest.raises(UnsupportedContent, match=r"messages\.0\.content\.0: this model has no vision"):
        prompt({"role": "user", "content": [image]})

    within = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "t"}, image]}}
    with pytest.raises(UnsupportedContent, match=r"messages\.0\.content\.0: this model has no vision"):
        prompt({"role": "user", "content": [within]})
