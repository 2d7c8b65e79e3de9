"""Prefix hits, counted: each turn of a conversation computes what is new in it, and hardly more."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer.generated import GeneratedIds
from nbllama.answer.service import Service
from nbllama.engine.runtime import Vocabulary
from nbllama.engine.slots import common_prefix
from tests.answer.test_service import run, script, serving

__all__ = ["script"]

RECORDINGS = Path(__file__).parents[1] / "recordings"
SHAPES = ("sdk", "llama_cells", "claude_code")
MOST_MORE = 0.02


class Conversation:
    """A recording that is played: the client's side is given, the model's is what it says."""

    def __init__(self, service: Service, recording: dict[str, Any], *, client: str = "local", seed: int = 0) -> None:
        self.service = service
        self.recording = recording
        self.client = client
        self.seed = seed
        self.messages: list[dict[str, Any]] = []
        self.n_requests = 0

    async def turns(self) -> AsyncIterator[dict[str, Any]]:
        """The record of each turn's request, after its answer."""
        for turn in self.recording["turns"]:
            for side in turn.get("before", []):
                await self._ask(side)
            if self.recording.get("single"):
                self.messages = []
            self.messages.append({"role": "user", "content": self._results() + as_blocks(turn["say"])})
            if "system_message" in turn:
                self.messages.append({"role": "system", "content": turn["system_message"]})
            fields = self._request()
            counted = await self.service.count_tokens(json.dumps(fields).encode(), client=self.client)
            record = await self._ask(fields)
            assert counted["input_tokens"] == len(record["prompt_ids"])
            usage = record["message"]["usage"]
            created = usage["cache_creation_input_tokens"]
            assert usage["input_tokens"] + created + usage["cache_read_input_tokens"] == counted["input_tokens"]
            self.messages.append({"role": "assistant", "content": record["message"]["content"]})
            yield record

    def _request(self) -> dict[str, Any]:
        text = json.dumps(self.recording["request"] | {"model": "any", "messages": self.messages})
        fields: dict[str, Any] = json.loads(text.replace("TURN", str(self.n_requests)))
        if self.recording.get("moving_cache_control"):
            fields["messages"][-1] = marked(fields["messages"][-1])
        return fields

    def _results(self) -> list[dict[str, Any]]:
        last = self.messages[-1]["content"] if self.messages else []
        calls = [block for block in last if block["type"] == "tool_use"]
        result = self.recording["result"]
        return [{"type": "tool_result", "tool_use_id": call["id"], "content": result} for call in calls]

    async def _ask(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.n_requests += 1
        id = f"req_{self.client}_{self.n_requests}"
        wish = {"model": "any", "temperature": 1.0, "nbllama": {"seed": self.seed + self.n_requests}}
        # The demo model sometimes goes on for ever, which says nothing about its prefix.
        wish["max_tokens"] = min(fields["max_tokens"], 150)
        answer = await self.service.messages(json.dumps(fields | wish).encode(), client=self.client, request_id=id)
        async for _ in answer.events():
            pass
        return self.service.trace(id, self.client)


def as_blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else copy.deepcopy(content)


def marked(message: dict[str, Any]) -> dict[str, Any]:
    *first, last = as_blocks(message["content"])
    return message | {"content": [*first, last | {"cache_control": {"type": "ephemeral"}}]}


def new_tokens(record: dict[str, Any], earlier: list[dict[str, Any]], vocabulary: Vocabulary) -> int:
    """How many of a prompt's tokens lie, or end, behind what it has in common with an earlier text."""
    prompt = record["prompt"].encode()
    common = max(common_prefix(prompt, (one["prompt"] + one["output_text"]).encode()) for one in earlier)
    ends = accumulate(len(vocabulary.piece(id)) for id in record["prompt_ids"])
    # One token is always computed, to have logits.
    return max(1, sum(end > common for end in ends))


def odd(record: dict[str, Any], vocabulary: Vocabulary) -> bool:
    """Whether an answer was generated in ids that the tokenizer would not give."""
    plain: list[int] = vocabulary.tokenize(record["output_text"], parse_control=False)
    return bool(plain[: len(record["output_ids"])] != record["output_ids"])


def vocabulary_of(service: Service) -> Vocabulary:
    model = service._catalog.default().model
    assert model is not None
    return model.vocabulary


def check_turn(record: dict[str, Any], earlier: list[dict[str, Any]], vocabulary: Vocabulary) -> tuple[int, int]:
    """(computed, new) tokens of a turn, which are as good as equal."""
    usage, new = record["message"]["usage"], new_tokens(record, earlier, vocabulary)
    computed = usage["input_tokens"] + usage["cache_creation_input_tokens"]
    # What was drawn last was never computed, where the answer did not end by itself.
    cut = sum(one["ending"] in ("max_tokens", "stop_sequence") for one in earlier[-1:])
    # A turn that the model opened within its answer comes back as text, in which no control token is one.
    strays = any("<|im_start|>" in one["output_text"] for one in earlier)
    assert strays or computed <= new * (1 + MOST_MORE) + cut, (
        f"{computed} computed, {new} new: {record['prompt'][-300:]!r}"
    )
    return computed, new


def recording(shape: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((RECORDINGS / f"{shape}.json").read_text())
    return data


@pytest.fixture
def models(script: Callable[..., str]) -> Iterator[dict[str, str]]:
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Paris"}}\n</tool_call>'
    rules = [
        {"when": "weather in Paris", "answer": f"<think>\nI look.\n</think>\n\nLet me look.\n{call}"},
        {"when": "parser", "answer": call.replace("get_weather", "Bash").replace("location", "command")},
        {"answer": "This is a longer answer, with more than one line.\n\nIt has 2 numbers: 17 and 4.  \n"},
    ]
    bytewise = [rule | {"spelling": "bytes"} for rule in rules]
    yield {"demo": "demo", "scripted": script(rules=bytewise, n_ctx=100_000)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("model", ["demo", "scripted"])
def test_each_turn_computes_what_is_new(models: dict[str, str], model: str, shape: str) -> None:
    async def check() -> None:
        async with serving(models[model]) as service:
            await service.load(models[model])
            n_odd = 0
            for seed in range(3 if model == "demo" else 1):
                earlier: list[dict[str, Any]] = []
                conversation = Conversation(service, recording(shape), client=f"c{seed}", seed=1000 * seed)
                async for record in conversation.turns():
                    if earlier:
                        check_turn(record, earlier, vocabulary_of(service))
                    earlier.append(record)
                    n_odd += odd(record, vocabulary_of(service))
                assert len(earlier) >= 5
            assert n_odd > 0 or shape == "llama_cells"

    run(check())


@pytest.mark.parametrize("model", ["demo", "scripted"])
def test_conversations_that_take_turns_do_not_cost_each_other_their_prefix(models: dict[str, str], model: str) -> None:
    async def check() -> None:
        async with serving(models[model]) as service:
            await service.load(models[model])
            playing = []
            for n, shape in enumerate(("claude_code", "claude_code", "sdk", "sdk")):
                playing.append(Conversation(service, recording(shape), client=f"c{n}", seed=100 * n).turns())
            earlier: list[list[dict[str, Any]]] = [[] for _ in playing]
            for _ in range(5):
                for turns, before in zip(playing, earlier, strict=True):
                    record = await anext(turns)
                    if before:
                        check_turn(record, before, vocabulary_of(service))
                    before.append(record)

    run(check())


def test_without_the_memory_the_same_count_is_exceeded(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GeneratedIds, "find", lambda *_: None)

    async def check() -> None:
        async with serving(models["scripted"]) as service:
            await service.load(models["scripted"])
            earlier: list[dict[str, Any]] = []
            with pytest.raises(AssertionError, match="computed"):
                async for record in Conversation(service, recording("sdk")).turns():
                    if earlier:
                        check_turn(record, earlier, vocabulary_of(service))
                    earlier.append(record)

    run(check())


def test_conversations_played_at_once_end_and_are_each_clients_own(models: dict[str, str]) -> None:
    async def play(service: Service, n: int) -> int:
        turns = Conversation(service, recording("sdk"), client=f"c{n}", seed=n).turns()
        return len([record async for record in turns])

    async def check() -> None:
        async with serving(models["demo"]) as service:
            await service.load("demo")
            assert await asyncio.gather(*(play(service, n) for n in range(4))) == [5] * 4

    run(check())
