"""One `%%llama --chat NAME` cell: what goes along with its prompt, and what of it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook.ask import Ended, Question, n_prompt
from nbllama.notebook.errors import AskError
from nbllama.notebook.magics.conversation import Conversation, conversations
from nbllama.notebook.served_models import model_entry, model_of
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint

TOO_LONG = "prompt is too long"

_ROOM = 4
"""One part in so many of the context is kept free for the answer when turns are left out: not each turn drops one."""

_ENDINGS = {
    "failed": "this turn is not kept: ask again",
    "model_context_window_exceeded": "the context is full",
}


@dataclass
class ChatTurn:
    """The next turn of a conversation. What the question itself says of system and model holds from now on."""

    conversation: Conversation
    question: Question

    @classmethod
    def of(cls, chat: Conversation, question: Question) -> ChatTurn:
        system = chat.system if question.system is None else question.system
        content = chat.prompt(str(question.prompt))["content"]
        history = chat.history()
        return cls(chat, replace(question, prompt=content, system=system, history=history))

    def leave_out(self, reach: Callable[[], Endpoint], say: Callable[[str], None]) -> None:
        """Leaves out the oldest turns, for good, if the prompt would not fit; says which. Raises NbllamaError."""
        chat = self.conversation
        if not chat.turns:
            return
        endpoint = reach()
        model = model_of(endpoint, self.question.model)
        n_ctx = _n_ctx(endpoint, model)
        if n_ctx is None:
            return
        room = n_ctx - min(self.question.max_tokens, n_ctx // _ROOM)

        def count(leave_out: int) -> int:
            body = replace(self.question, history=chat.history(leave_out)).body(model)
            # It is for answers only.
            counted = {name: value for name, value in body.items() if name not in ("max_tokens", "temperature")}
            answer = connection.request_json(endpoint, "POST", "/v1/messages/count_tokens", counted, timeout=None)
            return int(answer["input_tokens"])

        n = chat.to_leave_out(count, room)
        if n > chat.n_left_out:
            say(f"left out, since the context of {n_ctx:,} tokens is full: {chat.left_out_text(n)}")
            chat.n_left_out = n
            self.question = replace(self.question, prompt=_answered(self.question, chat), history=chat.history())

    def end(self, ended: Ended) -> str:
        """Keeps the turn; what the footer says about it."""
        chat = self.conversation
        prompt = {"role": "user", "content": self.question.prompt}
        if not chat.keep(prompt, ended.said, ended.ending):
            return f"{chat.name}: {_ENDINGS.get(ended.ending, 'nothing was said: this turn is not kept')}"
        chat.system, chat.model = self.question.system, self.question.model
        chat.tokens = n_prompt(ended.usage) + (ended.usage.get("output_tokens") or 0)
        conversations.keep(chat)
        state = chat.state(ended.n_ctx)
        return f"{state}; {_ENDINGS[ended.ending]}: {chat.offer()}" if ended.ending in _ENDINGS else state

    def refusal(self, error: AskError) -> AskError:
        """The error of a turn; that of one that does not fit says how the chat can go on."""
        return AskError(error.error, self.conversation.offer()) if TOO_LONG in str(error) else error


def _answered(question: Question, chat: Conversation) -> Any:
    """The prompt without answers to calls that have been left out."""
    if chat.turns[chat.n_left_out :] or isinstance(question.prompt, str):
        return question.prompt
    return [block for block in question.prompt if block.get("type") != "tool_result"]


def _n_ctx(endpoint: Endpoint, model: str) -> int | None:
    """A model's context in tokens; None where the server does not say, or has not loaded it yet."""
    if n_ctx := model_entry(endpoint, model).get("n_ctx"):
        return int(n_ctx)
    with contextlib.suppress(NbllamaError):
        found = connection.request_json(endpoint, "GET", f"/v1/models/{model}").get("max_input_tokens")
        return int(found) if found else None
    return None
