"""`--chat NAME`: what was said so far goes along with the next prompt. Pure; kept in the kernel, by name.

A turn is one prompt and what came of it: the model's whole answer, thinking and calls too, since its next prompt must
begin with the same tokens to be found in the prefix cache. The oldest turns can be left out when the context is full;
they stay out, or each turn would move the beginning and be computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from IPython.core.error import UsageError

from nbllama.notebook.near import near
from nbllama.notebook.phrases import bounded

Message = dict[str, Any]

NOT_RUN = "This call was not run."
"""The result of a call that nobody answered: without one, no request may go on behind it."""

_NEARLY = 0.8
"""The share of the context from which on a chat says how it can go on."""


@dataclass(frozen=True)
class Turn:
    """`messages` begins with the user's prompt; `ending` is the answer's, as `AnswerView` tells it."""

    messages: list[Message]
    ending: str


@dataclass
class Conversation:
    """`turns[n_left_out:]` is what the model is told. `tokens` are those of the last prompt and its answer."""

    name: str
    system: str | None = None
    model: str = ""
    turns: list[Turn] = field(default_factory=list)
    n_left_out: int = 0
    tokens: int = 0

    def history(self, leave_out: int | None = None) -> list[Message]:
        """The messages before the next prompt, without the oldest `leave_out` turns (None: as it is)."""
        first = self.n_left_out if leave_out is None else leave_out
        return [message for turn in self.turns[first:] for message in turn.messages]

    def prompt(self, text: str) -> Message:
        """The next prompt. Calls that were left open are answered first."""
        last = self.turns[-1].messages[-1]["content"] if self.turns[self.n_left_out :] else []
        open_calls = [block["id"] for block in last if isinstance(block, dict) and block.get("type") == "tool_use"]
        if not open_calls:
            return {"role": "user", "content": text}
        results = [
            {"type": "tool_result", "tool_use_id": id, "content": NOT_RUN, "is_error": True} for id in open_calls
        ]
        return {"role": "user", "content": [*results, {"type": "text", "text": text}]}

    def keep(self, prompt: Message, said: Sequence[Message], ending: str) -> bool:
        """Adds a turn, as far as it came. Says whether there was anything to keep: a failed one is asked again."""
        messages = [{"role": one["role"], "content": _sendable(one["content"])} for one in said]
        messages = [message for message in messages if message["content"]]
        if ending == "failed" or not messages or messages[-1]["role"] != "assistant":
            return False
        self.turns.append(Turn([prompt, *messages], ending))
        return True

    def to_leave_out(self, count: Callable[[int], int], room: int) -> int:
        """How many of the oldest turns must stay out for the prompt to have at most `room` tokens.

        `count` tells a prompt's tokens without so many turns; it is asked a few times at most. The last of all turns
        may be left out too: the prompt alone is what remains."""
        low, high = self.n_left_out, len(self.turns)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if count(middle) <= room else (middle + 1, high)
        return low

    def left_out_text(self, n: int) -> str:
        """Which turns go when the first `n` are left out: "turns 1 to 3 of pupil ("What is…" to "And…")"."""
        first, last = self.turns[self.n_left_out], self.turns[n - 1]
        if n - self.n_left_out == 1:
            return f"turn {n} of {self.name} ({_quoted(first)})"
        return f"turns {self.n_left_out + 1} to {n} of {self.name} ({_quoted(first)} to {_quoted(last)})"

    def state(self, n_ctx: int | None) -> str:
        """What a footer says: which turn this was, how full the context is, and how to go on when it nearly is."""
        parts = [f"{self.name}: turn {len(self.turns)}"]
        if self.n_left_out:
            parts.append(f"the first {self.n_left_out} left out")
        if n_ctx and self.tokens:
            parts.append(f"{self.tokens:,} of {n_ctx:,} tokens")
            if self.tokens >= _NEARLY * n_ctx:
                parts.append("nearly full: --drop leaves out the oldest turns")
        return ", ".join(parts)

    def offer(self) -> str:
        """How to go on when the context is full."""
        if not self.turns[self.n_left_out :]:
            return "shorten the prompt: nothing of the chat goes along with it any more"
        return (
            f"--drop leaves out the oldest turns of {self.name} and says which; "
            f"`%llama chats clear {self.name}` begins anew; for more context: `%llama stop`, set NBLLAMA_CTX, "
            "restart the kernel"
        )


class Conversations:
    """Those of this kernel, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Conversation] = {}

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._by_name.values())

    def names(self) -> list[str]:
        return list(self._by_name)

    def begin(self, name: str) -> Conversation:
        """The one of this name, a new one if there is none. It is kept with its first turn only."""
        return self._by_name.get(name) or Conversation(name)

    def keep(self, conversation: Conversation) -> None:
        self._by_name[conversation.name] = conversation

    def named(self, name: str) -> Conversation:
        """Raises UsageError if there is none."""
        if name not in self._by_name:
            known = f"there is {', '.join(self._by_name)}" if self._by_name else "%%llama --chat NAME begins one"
            raise UsageError(f"no chat is called {name}\n→ {near(name, self._by_name) or known}")
        return self._by_name[name]

    def clear(self, name: str | None = None) -> list[str]:
        """Forgets one, or all; the names of those. Raises UsageError if there is none of that name."""
        names = self.names() if name is None else [self.named(name).name]
        for one in names:
            del self._by_name[one]
        return names


conversations = Conversations()
"""Those of this process. `%reload_ext` leaves them."""


def _sendable(content: Any) -> Any:
    """What of an answer may be sent back: not the text that never came, nor thinking without its signature."""
    if not isinstance(content, list):
        return content
    return [block for block in content if not _is_unfinished(block)]


def _is_unfinished(block: dict[str, Any]) -> bool:
    match block.get("type"):
        case "text":
            return not block.get("text")
        case "thinking":
            return not block.get("signature")
    return False


def _quoted(turn: Turn) -> str:
    content = turn.messages[0]["content"]
    text = content if isinstance(content, str) else str(content[-1].get("text", ""))
    return f'"{bounded(" ".join(text.split()), 31)}"'
