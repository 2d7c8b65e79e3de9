"""An answer gone on with from one of its tokens, by the real demo model: the same, another, refused, cancelled."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from nbllama.answer.model_catalog import LoadedModel
from nbllama.answer.model_hash import READ_BYTES, model_hash
from nbllama.answer.model_sources import ModelSource
from nbllama.answer.service import Service
from nbllama.chat.prompt import TEMPLATE, Prompt, Segment, Span
from nbllama.chat.template import ChatTemplate
from nbllama.wire.errors import ApiError, InvalidRequest, NotFound
from nbllama.wire.events import ContentBlockDelta, ContentBlockStart, Event, MessageStart
from tests.answer.test_enforced_calls import LOOK, message
from tests.answer.test_service import WEATHER, ask, body, collect, run, script, serving, stop_reason, terminal

__all__ = ["script"]

ASKED = "What is the weather in Paris?"
KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
    "call": {"tools": [WEATHER], "tool_choice": {"type": "any"}},
}


async def fork(service: Service, of: str, index: int, token: int, *, id: str = "fork", **wish: Any) -> list[Event]:
    sent = json.dumps({"index": index, "token": token, **wish}).encode()
    return await collect(await service.fork(of, sent, client="local", request_id=id))


def record_of(service: Service, id: str) -> dict[str, Any]:
    return service.trace(id, "local")


def spelled(record: dict[str, Any], ids: list[int]) -> bytes:
    return b"".join(bytes.fromhex(record["pieces"][str(id)]) for id in ids)


def told(events: list[Event]) -> list[dict[str, Any]]:
    """The blocks without what is new in each answer."""
    return [{**block, "id": "", "signature": ""} for block in message(events)["content"]]


def other_than_drawn(record: dict[str, Any], start: int = 0) -> tuple[int, int]:
    """The first place from `start` on that had an alternative, and the best one."""
    for index, one in enumerate(record["probabilities"][start:], start):
        for id, _ in one["top"]:
            if id != record["output_ids"][index]:
                return index, id
    raise AssertionError("no token had an alternative")


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_same_token_it_goes_on_as_before_out_of_the_cache(kind: str) -> None:
    async def check() -> None:
        async with serving("demo") as service:
            before = await ask(service, ASKED, id="origin", **KINDS[kind])
            origin = record_of(service, "origin")
            ids = origin["output_ids"]
            for index in (0, 1, len(ids) // 2, len(ids) - 1):
                events = await fork(service, "origin", index, ids[index], stream=True)
                again = record_of(service, "fork")
                usage = message(events)["usage"]

                assert again["output_ids"] == ids
                assert told(events) == told(before) and stop_reason(events) == stop_reason(before)
                assert again["forked_from"]["index"] == index and again["forked_from"]["id"] == "origin"
                # All but the last token, from which the next one is drawn.
                assert usage["cache_read_input_tokens"] == len(origin["prompt_ids"]) + index
                assert again["reuse"]["cached_tokens"] == len(origin["prompt_ids"]) + index
                assert again["timings"]["prefill_tokens"] == usage["input_tokens"] == 1
                assert usage["output_tokens"] == message(before)["usage"]["output_tokens"] - index - 1

    run(check())


def test_an_alternative_leads_elsewhere_and_what_is_known_comes_first() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, ASKED, id="origin", nbllama={"probabilities": 3}, **KINDS["thinking"])
            origin = record_of(service, "origin")
            index, token = other_than_drawn(origin, 5)
            events = await fork(service, "origin", index, token)
            other = record_of(service, "fork")

            assert other["output_ids"][: index + 1] == [*origin["output_ids"][:index], token]
            assert other["output_ids"] != origin["output_ids"]
            assert spelled(other, other["output_ids"]).decode(errors="replace") == other["output_text"]
            kept = spelled(other, other["output_ids"][: index + 1]).decode()
            start, block, delta = events[:3]
            assert isinstance(start, MessageStart) and isinstance(block, ContentBlockStart)
            assert block.block["type"] == "thinking" and isinstance(delta, ContentBlockDelta)
            assert kept.startswith(f"<think>\n{delta.delta['thinking']}")
            chosen = other["probabilities"][index]
            assert other["probabilities"][:index] == origin["probabilities"][:index]
            assert [token, chosen["logprob"]] in origin["probabilities"][index]["top"]
            assert len(other["probabilities"]) == len(other["output_ids"])

            await fork(service, "fork", 2, origin["output_ids"][2], id="again")
            assert record_of(service, "again")["output_ids"] == origin["output_ids"]

    run(check())


def test_inside_a_call_the_arguments_fit_their_schema() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            asking = {"tools": [LOOK], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
            await ask(service, ASKED, id="origin", nbllama={"probabilities": 4}, max_tokens=400, **asking)
            origin = record_of(service, "origin")
            places = [i for i, one in enumerate(origin["probabilities"]) if len(one["top"]) > 1]
            assert len(places) > 4
            answers = set()
            for index in places[:: max(1, len(places) // 8)]:
                token = next(id for id, _ in origin["probabilities"][index]["top"] if id != origin["output_ids"][index])
                events = await fork(service, "origin", index, token, max_tokens=400)
                (call,) = message(events)["content"]
                jsonschema.validate(call["input"], LOOK["input_schema"])
                assert stop_reason(events) == "tool_use"
                other = record_of(service, "fork")
                answers.add(other["output_text"])
                # What is told later of forced tokens is told of the right ones.
                told_of = [(id, one) for id, one in zip(other["output_ids"], other["probabilities"], strict=True)]
                assert all(one["top"][0][0] == id for id, one in told_of if one["forced"])
            assert len(answers) > 4 and origin["output_text"] not in answers

    run(check())


def test_what_cannot_stand_there_is_refused_and_named() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, ASKED, id="origin", **KINDS["call"])
            origin = record_of(service, "origin")
            ids = origin["output_ids"]
            brace = next(i for i, id in enumerate(ids) if b"arguments" in spelled(origin, [id]))
            with pytest.raises(
                InvalidRequest, match=r"token: .* is not allowed at .* allows .* tokens? there"
            ) as refused:
                await fork(service, "origin", brace, ids[0])
            # What it wrote itself is named first.
            assert f"there: {json.dumps(spelled(origin, [ids[brace]]).decode())}" in str(refused.value)
            assert record_of(service, "fork")["ending"] == "error"
            for wish, said in (
                ({"index": len(ids) + 1}, f"index: the answer has {len(ids)} tokens, it can be forked at 0"),
                ({"token": 10**6}, "token: this model has no token 1000000"),
                ({"token": "Paris"}, "token: Input should be a valid integer"),
                ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
                ({"temperature": 3}, "temperature: Input should be less than or equal to 1"),
                ({"probabilities": 99}, "nbllama.probabilities: Input should be less than"),
                ({"tools": []}, "tools: a fork has no such field"),
            ):
                with pytest.raises(InvalidRequest, match=said):
                    await fork(service, **{"of": "origin", "index": 1, "token": ids[1], **wish})
            with pytest.raises(NotFound):
                await service.fork("origin", b'{"index": 0, "token": 5}', client="another", request_id="theirs")

    run(check())


def test_after_a_budget_of_thinking_only_its_end_may_stand() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            thinking = {"type": "adaptive"}
            await ask(service, ASKED, id="origin", thinking=thinking, output_config={"effort": "low"}, max_tokens=60)
            origin = record_of(service, "origin")
            ids = origin["output_ids"]
            end = next(i for i, id in enumerate(ids) if b"</think>" in spelled(origin, [id]))
            with pytest.raises(InvalidRequest, match='allows 1 token there: "</think>"'):
                await fork(service, "origin", end, ids[end - 1])

    run(check())


def test_what_is_not_known_any_more_cannot_be_forked(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving("demo", trace_bytes=80_000) as service:
            await ask(service, ASKED, id="origin")
            await ask(service, "word " * 2500, id="large", max_tokens=1)
            with pytest.raises(InvalidRequest, match="trace large: it was too large to keep whole"):
                await fork(service, "large", 0, 5)
            with pytest.raises(ApiError):
                await service.messages(b"{}", client="local", request_id="refused")
            with pytest.raises(InvalidRequest, match="trace refused: the request never reached a model"):
                await fork(service, "refused", 0, 5)
            with pytest.raises(NotFound, match="no trace gone"):
                await fork(service, "gone", 0, 5)
            entry = service._catalog.default()
            loaded = entry.model
            assert isinstance(loaded, LoadedModel)
            entry.model = dataclasses.replace(loaded, hash="another file's")
            with pytest.raises(InvalidRequest, match="loaded as demo now is another one"):
                await fork(service, "origin", 0, 5)
            entry.model = loaded
            await service.unload("demo")
            with pytest.raises(InvalidRequest, match="the model demo is not loaded any more"):
                await fork(service, "origin", 0, 5)
            await service.load("demo")
            await fork(service, "origin", 0, 5)
            assert record_of(service, "fork")["ending"] == "done"

    run(check())


def test_the_recorded_prompt_counts_also_where_the_template_writes_another_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    render = ChatTemplate.render

    def later(template: ChatTemplate, request: Any) -> Prompt:
        prompt = render(template, request)
        day = "It is another day. "
        spans = (Span(0, len(day), TEMPLATE), *prompt.spans)
        return Prompt(day + prompt.text, spans, (Segment(day, control=False), *prompt.segments), prompt.tail)

    def otherwise(template: ChatTemplate, request: Any) -> Prompt:
        return dataclasses.replace(render(template, request), tail="So: ")

    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, ASKED, id="origin")
            origin = record_of(service, "origin")
            monkeypatch.setattr(ChatTemplate, "render", later)
            await fork(service, "origin", 6, origin["output_ids"][6])
            again = record_of(service, "fork")
            for name in ("prompt", "prompt_ids", "prompt_offsets", "spans", "output_ids"):
                assert again[name] == origin[name]
            assert again["reuse"]["cached_tokens"] == len(origin["prompt_ids"]) + 6
            monkeypatch.setattr(ChatTemplate, "render", otherwise)
            with pytest.raises(InvalidRequest, match="writes the end of its prompt otherwise now"):
                await fork(service, "origin", 6, origin["output_ids"][6])

    run(check())


def test_an_answer_may_end_at_once_or_go_on_behind_its_end() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, ASKED, id="origin", max_tokens=4)
            origin = record_of(service, "origin")
            model = service._catalog.default().model
            assert isinstance(model, LoadedModel)
            (end,) = [id for id in model.control if model.vocabulary.is_end_of_generation(id)][:1]
            events = await fork(service, "origin", 2, end)
            assert stop_reason(events) == "end_turn"
            assert record_of(service, "fork")["output_ids"] == origin["output_ids"][:2]
            assert message(events)["usage"]["output_tokens"] == 0

            with pytest.raises(InvalidRequest, match="max_tokens: Field required"):
                await fork(service, "origin", 4, origin["output_ids"][0])
            events = await fork(service, "origin", 4, origin["output_ids"][0], max_tokens=3, stream=True)
            longer = record_of(service, "fork")
            assert longer["output_ids"][:5] == [*origin["output_ids"], origin["output_ids"][0]]
            assert message(events)["usage"]["output_tokens"] == 3 and longer["ending"] == "max_tokens"

            text = spelled(origin, origin["output_ids"]).decode()
            await ask(service, ASKED, id="stopped", stop_sequences=[text])
            events = await fork(service, "stopped", 3, origin["output_ids"][3])
            assert stop_reason(events) == "stop_sequence"
            with pytest.raises(InvalidRequest, match="nothing can follow there, the answer is over"):
                await fork(service, "stopped", 4, origin["output_ids"][0])

    run(check())


def test_half_a_character_is_ended_by_the_engine() -> None:
    """The chosen token is the first byte of one; what the model writes behind it is no second one."""

    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, ASKED, id="origin")
            model = service._catalog.default().model
            assert isinstance(model, LoadedModel)
            half = next(id for id in range(model.info.n_vocab) if model.vocabulary.piece(id) == b"\xc3")
            await fork(service, "origin", 3, half)
            other = record_of(service, "fork")
            assert other["output_text"] == spelled(other, other["output_ids"]).decode(errors="replace")
            assert "\ufffd" in other["output_text"]

    run(check())


def test_a_seed_holds_for_the_fork_too() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            await ask(service, "Tell me a story", id="origin", temperature=1.0, nbllama={"seed": 7}, max_tokens=40)
            texts = []
            for seed in (None, None, 8, 9, 10):
                # Behind a word that it never begins with it is sure of nothing.
                await fork(service, "origin", 0, 300, max_tokens=20, top_k=0, seed=seed)
                texts.append(record_of(service, "fork")["output_text"])
            assert texts[0] == texts[1] and len(set(texts)) > 1
            assert record_of(service, "fork")["request"]["nbllama"]["seed"] == 10

    run(check())


def test_neighbours_keep_their_streams_and_a_fork_can_be_cancelled(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"when": "endless", "answer": "word " * 5000, "delay_s": 0.02}, {"answer": "one two three four five"}]
        async with serving(script(rules=rules, max_sequences=2)) as service:
            await ask(service, "count", id="origin")
            slow = await service.messages(body("endless", stream=True, max_tokens=30), client="a", request_id="slow")
            beside = asyncio.create_task(collect(slow))
            token = record_of(service, "origin")["output_ids"][0]
            # More of them than places: some wait, as any request does.
            await asyncio.gather(*(fork(service, "origin", 0, token, id=f"f{n}", stream=True) for n in range(6)))
            assert {record_of(service, f"f{n}")["ending"] for n in range(6)} == {"done"}
            assert stop_reason(await beside) == "max_tokens"
            assert service.trace("slow", "a")["output_text"] == ("word " * 30).strip()

            sent = json.dumps({"index": 1, "token": token, "max_tokens": 4000, "stream": True}).encode()
            with pytest.raises(NotFound):
                await service.fork("slow", sent, client="b", request_id="theirs")
            forked = await service.fork("slow", sent, client="a", request_id="mine")
            assert [one["id"] for one in service.requests("a")] == ["mine"]
            running = asyncio.create_task(collect(forked))
            service.cancel("mine", "a")
            terminal(await running)
            assert service.trace("mine", "a")["ending"] == "cancelled"

    run(check())


def test_a_file_with_another_beginning_end_or_size_is_another_model(tmp_path: Any) -> None:
    path = tmp_path / "m.gguf"
    source = ModelSource(str(path), "m", "gguf", path)
    content = bytes(3 * READ_BYTES)
    seen = set()
    for changed in (content, b"x" + content[1:], content[:-1] + b"x", content + b"\0"):
        path.write_bytes(changed)
        seen.add(model_hash(source))
    path.unlink()
    assert len(seen) == 4 and model_hash(source) == ""
