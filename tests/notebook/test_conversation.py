"""What a conversation keeps of a turn, and which turns go when the context is full."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError

from nbllama.notebook.magics.conversation import NOT_RUN, Conversation, Conversations


def assistant(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": list(blocks)}]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}


def chat_of(n: int) -> Conversation:
    chat = Conversation("c")
    for number in range(1, n + 1):
        assert chat.keep(chat.prompt(f"question {number}"), assistant(text(f"answer {number}")), "end_turn")
    return chat


def test_everything_that_was_said_goes_along_again() -> None:
    chat = Conversation("c")
    assert chat.keep(chat.prompt("Weather?"), assistant(THOUGHT, text("I look."), CALL), "tool_use")

    assert chat.history() == [{"role": "user", "content": "Weather?"}, *assistant(THOUGHT, text("I look."), CALL)]
    # Without a result for the open call, no request may go on.
    assert chat.prompt("Well?")["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": NOT_RUN, "is_error": True},
        text("Well?"),
    ]


def test_an_interrupted_turn_is_kept_as_far_as_it_came() -> None:
    chat = Conversation("c")
    unsigned = THOUGHT | {"signature": ""}

    assert chat.keep(chat.prompt("a"), assistant(unsigned, text("One tw")), "interrupted")
    assert not chat.keep(chat.prompt("b"), assistant(unsigned, text("")), "interrupted")
    assert not chat.keep(chat.prompt("c"), [], "interrupted")
    assert not chat.keep(chat.prompt("d"), assistant(text("Half")), "failed")
    assert chat.history() == [{"role": "user", "content": "a"}, *assistant(text("One tw"))]


@pytest.mark.parametrize(("room", "left_out"), [(900, 0), (700, 0), (699, 1), (250, 5), (100, 6), (99, 7), (0, 7)])
def test_as_few_turns_are_left_out_as_must(room: int, left_out: int) -> None:
    chat, asked = chat_of(7), []

    def count(n: int) -> int:
        asked.append(n)
        return 100 * (7 - n)

    assert chat.to_leave_out(count, room) == left_out
    assert len(asked) <= 4


def test_what_was_left_out_stays_out_and_is_said() -> None:
    chat = chat_of(4)
    assert chat.left_out_text(1) == 'turn 1 of c ("question 1")'
    assert chat.left_out_text(3) == 'turns 1 to 3 of c ("question 1" to "question 3")'
    chat.n_left_out = 2
    assert chat.left_out_text(4) == 'turns 3 to 4 of c ("question 3" to "question 4")'
    assert [one["content"] for one in chat.history()][::2] == ["question 3", "question 4"]
    assert chat.to_leave_out(lambda n: 0, 100) == 2


def test_a_footer_offers_a_way_on_in_time() -> None:
    chat = chat_of(2)
    chat.tokens = 79
    assert chat.state(100) == "c: turn 2, 79 of 100 tokens"
    chat.tokens, chat.n_left_out = 80, 1
    assert (
        chat.state(100)
        == "c: turn 2, the first 1 left out, 80 of 100 tokens, nearly full: --drop leaves out the oldest turns"
    )
    assert chat.state(None) == "c: turn 2, the first 1 left out"


def test_chats_are_forgotten_by_name() -> None:
    chats = Conversations()
    for name in ("pupil", "tutor"):
        chats.keep(chats.begin(name))
    with pytest.raises(UsageError, match="did you mean pupil"):
        chats.clear("pupl")
    assert chats.clear("pupil") == ["pupil"] and chats.names() == ["tutor"]
    assert chats.clear() == ["tutor"] and chats.names() == []
