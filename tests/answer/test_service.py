"""One request through all of answer: the ways it can end, on the scripted runtime and on the demo model."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nbllama.answer.answer_request import Answer
from nbllama.answer.loading import Loader
from nbllama.answer.model_sources import ModelSource
from nbllama.answer.service import Service
from nbllama.answer.service_settings import ServiceSettings
from nbllama.engine.errors import EngineStopped
from nbllama.engine.runtime import Runtime
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from nbllama.wire.errors import ApiError, InvalidRequest, NotFound, Overloaded
from nbllama.wire.events import ErrorEvent, Event, MessageDelta, MessageStart, MessageStop, Ping

WEATHER = {
    "name": "get_weather",
    "description": "Get current weather for a location",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "City name"}},
        "required": ["location"],
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Paris"}}\n</tool_call>'


def body(text: str = "hello", **fields: Any) -> bytes:
    request = {"model": "any", "max_tokens": 256, "messages": [{"role": "user", "content": text}]}
    return json.dumps(request | fields).encode()


@asynccontextmanager
async def serving(model: str, *, load: Loader | None = None, **settings: Any) -> AsyncIterator[Service]:
    """A service; afterwards the books must add up and no request may be left."""
    service = Service(ServiceSettings(model=model, **settings), load=load)
    await service.start()
    try:
        yield service
        assert service.status()["requests_running"] == 0
        await asyncio.to_thread(service.check_integrity)
    finally:
        await service.close()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    def write(**fields: Any) -> str:
        path = tmp_path / "play.json"
        path.write_text(json.dumps(fields))
        return f"scripted:{path}"

    return write


class HeldLoader:
    """Loads a script when it is told to."""

    def __init__(self, **script: Any) -> None:
        self.go = threading.Event()
        self.runtime = ScriptedRuntime(Script.parse(script, name="held"))

    def __call__(self, source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime:
        assert self.go.wait(30)
        return self.runtime


async def collect(answer: Answer) -> list[Event]:
    return [event async for event in answer.events()]


async def ask(service: Service, text: str = "hello", *, id: str = "req_1", **fields: Any) -> list[Event]:
    answer = await service.messages(body(text, **fields), client="local", request_id=id)
    return await collect(answer)


def terminal(events: list[Event]) -> Event:
    """The one terminal event, which must be the last."""
    ends = [event for event in events if isinstance(event, MessageStop | ErrorEvent)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    return ends[0]


def stop_reason(events: list[Event]) -> str:
    assert isinstance(terminal(events), MessageStop)
    return next(event.stop_reason for event in events if isinstance(event, MessageDelta))


def run(work: Any) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


def test_done(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"when": "hello", "answer": "Hello there."}])) as service:
            events = await ask(service)
            message = service.trace("req_1", "local")["message"]

            assert stop_reason(events) == "end_turn"
            assert message["content"] == [{"type": "text", "text": "Hello there."}]
            assert message["usage"]["output_tokens"] == 4
            assert service.trace("req_1", "local")["ending"] == "done"

    run(check())


def test_max_tokens(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "one two three four"}])) as service:
            events = await ask(service, max_tokens=2)

            assert stop_reason(events) == "max_tokens"
            assert service.trace("req_1", "local")["message"]["content"][0]["text"] == "one two"

    run(check())


def test_stop_sequence(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "one two three four five six"}])) as service:
            events = await ask(service, stop_sequences=["ee fo", "never"])
            record = service.trace("req_1", "local")

            assert stop_reason(events) == "stop_sequence"
            assert record["message"]["stop_sequence"] == "ee fo"
            assert record["message"]["content"][0]["text"] == "one two thr"
            assert record["ending"] == "stop_sequence"

    run(check())


def test_tool_use(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": f"Let me look.\n{CALL}"}])) as service:
            events = await ask(service, tools=[WEATHER])
            content = service.trace("req_1", "local")["message"]["content"]

            assert stop_reason(events) == "tool_use"
            assert content[0] == {"type": "text", "text": "Let me look."}
            assert content[1]["name"] == "get_weather"
            assert content[1]["input"] == {"location": "Paris"}
            assert content[1]["id"].startswith("toolu_")

    run(check())


def test_a_call_cut_by_max_tokens_is_a_valid_object(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": CALL}])) as service:
            inputs = set()
            for n in range(1, 60):
                events = await ask(service, id=f"req_{n}", tools=[WEATHER], max_tokens=n)
                assert isinstance(terminal(events), MessageStop)
                for block in service.trace(f"req_{n}", "local")["message"]["content"]:
                    if block["type"] == "tool_use":
                        inputs.add(json.dumps(block["input"]))

            assert inputs >= {"{}", '{"location": "Paris"}'}

    run(check())


def test_one_call_only_when_parallel_calls_are_disabled(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": f"{CALL}\n{CALL}\n{CALL}"}])) as service:
            choice = {"type": "auto", "disable_parallel_tool_use": True}
            events = await ask(service, tools=[WEATHER], tool_choice=choice)

            assert stop_reason(events) == "tool_use"
            assert len(service.trace("req_1", "local")["message"]["content"]) == 1

    run(check())


def test_what_is_generated_after_the_one_call_changes_nothing(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": f"{CALL}\n" * 3}])) as service:
            wish: dict[str, Any] = {
                "tools": [WEATHER],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            }
            await ask(service, id="warm", **wish)
            late = await service.messages(body(max_tokens=60, **wish), client="local", request_id="late")
            await asyncio.sleep(0.3)
            events = await collect(late)

            assert stop_reason(events) == "tool_use"
            assert service.trace("late", "local")["message"]["usage"]["output_tokens"] < 60

    run(check())


def test_thinking_is_a_block_when_asked_for_and_nothing_otherwise(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "<think>\nHm.\n</think>\n\nYes."}])) as service:
            await ask(service, id="on", thinking={"type": "adaptive"})
            await ask(service, id="omitted", thinking={"type": "adaptive", "display": "omitted"})
            await ask(service, id="off")
            on, omitted, off = (service.trace(id, "local")["message"]["content"] for id in ("on", "omitted", "off"))

            assert [block["type"] for block in on] == ["thinking", "text"]
            assert on[0]["thinking"].strip() == "Hm."
            assert on[0]["signature"]
            assert omitted[0]["thinking"] == "" and omitted[0]["signature"] == on[0]["signature"]
            # Closed as soon as it was opened.
            assert [(block["type"], block["text"]) for block in off] == [("text", "Yes.")]

    run(check())


def test_thinking_is_counted_however_late_it_is_read(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "<think>\nHm hm hm.\n</think>\n\nYes it is."}])) as service:
            await ask(service, id="at_once", thinking={"type": "adaptive"})
            request = body(thinking={"type": "adaptive"})
            late = await service.messages(request, client="local", request_id="late")
            await asyncio.sleep(0.3)
            events = await collect(late)
            counted = [service.trace(id, "local")["message"]["usage"] for id in ("at_once", "late")]

            # With the token that opens the thinking.
            assert counted[0]["output_tokens_details"]["thinking_tokens"] == 9
            assert counted[0]["output_tokens_details"] == counted[1]["output_tokens_details"]
            assert sum(event.name == "content_block_delta" for event in events) == 3

    run(check())


def test_client_gone_mid_stream(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"when": "slow", "answer": "word " * 500, "delay_s": 0.01}, {"answer": "fine"}]
        async with serving(script(rules=rules, max_sequences=1)) as service:
            answer = await service.messages(body("slow"), client="local", request_id="gone")
            events = answer.events()
            async for event in events:
                if event.name == "content_block_delta":
                    break
            answer.cancel()
            await events.aclose()

            assert stop_reason(await ask(service, "next")) == "end_turn"
            assert service.trace("gone", "local")["ending"] == "cancelled"
            assert len(service.trace("gone", "local")["output_ids"]) < 500

    run(check())


def test_cancelled_while_the_model_loads(script: Callable[..., str]) -> None:
    async def check() -> None:
        load = HeldLoader(rules=[{"answer": "word " * 500, "delay_s": 0.01}])
        async with serving(script(), load=load) as service:
            answer = await service.messages(body(stream=True), client="local", request_id="gone")
            task = asyncio.create_task(collect(answer))
            await asyncio.sleep(0.1)
            answer.cancel()
            load.go.set()
            events = await task

            assert isinstance(terminal(events), ErrorEvent)
            assert service.trace("gone", "local")["ending"] == "cancelled"
            assert len(service.trace("gone", "local")["output_ids"]) < 10

    run(check())


def test_client_gone_while_the_model_loads_leaves_no_job(script: Callable[..., str]) -> None:
    async def check() -> None:
        load = HeldLoader(rules=[{"answer": "word " * 500, "delay_s": 0.01}])
        async with serving(model := script(), load=load) as service:
            answer = await service.messages(body(stream=True), client="local", request_id="gone")
            events = answer.events()
            assert isinstance(await anext(events), Ping)
            await events.aclose()
            load.go.set()
            await service.load(model)

            assert service.trace("gone", "local")["ending"] == "cancelled"
            assert service._engine.n_jobs("play") == (0, 0)

    run(check())


def test_closing_ends_a_stream_whose_model_is_loading(script: Callable[..., str]) -> None:
    async def check() -> None:
        load = HeldLoader()
        service = Service(ServiceSettings(model=script()), load=load)
        await service.start()
        try:
            answer = await service.messages(body(stream=True), client="local", request_id="req_1")
            task = asyncio.create_task(collect(answer))
            await asyncio.sleep(0.1)
            await service.close()
            end = terminal(await asyncio.wait_for(task, 5))
        finally:
            load.go.set()

        assert isinstance(end, ErrorEvent)
        assert end.body["error"]["type"] == "overloaded_error"

    run(check())


def test_closing_stops_a_load(script: Callable[..., str]) -> None:
    stopped = threading.Event()

    def load(source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                progress(0.5)
            except EngineStopped:
                stopped.set()
                raise
            time.sleep(0.01)
        return ScriptedRuntime(Script())

    async def check() -> None:
        service = Service(ServiceSettings(model=(model := script())), load=load)
        await service.start()
        task = asyncio.create_task(service.load(model))
        await asyncio.sleep(0.1)
        await service.close()

        with pytest.raises(Overloaded):
            await task
        assert await asyncio.to_thread(stopped.wait, 5)

    run(check())


def test_a_failing_decode_ends_the_stream_with_one_error(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"when": "bad", "answer": "a b c d e", "fail_after": 3}, {"answer": "fine"}]
        async with serving(script(rules=rules)) as service:
            events = await ask(service, "bad")
            end = terminal(events)

            assert isinstance(end, ErrorEvent)
            assert end.body["error"]["type"] == "api_error"
            assert end.body["request_id"] == "req_1"
            assert stop_reason(await ask(service, "good", id="req_2")) == "end_turn"
            assert service.trace("req_1", "local")["ending"] == "error"

    run(check())


def test_closing_ends_running_streams_with_an_error(script: Callable[..., str]) -> None:
    async def check() -> None:
        service = Service(ServiceSettings(model=(model := script(rules=[{"answer": "word " * 500, "delay_s": 0.01}]))))
        await service.start()
        await service.load(model)
        task = asyncio.create_task(ask(service))
        await asyncio.sleep(0.2)
        await service.close()
        end = terminal(await task)

        assert isinstance(end, ErrorEvent)
        assert end.body["error"]["type"] == "overloaded_error"

    run(check())


def test_an_answer_in_one_piece_fails_with_the_whole_error(script: Callable[..., str]) -> None:
    async def check() -> None:
        service = Service(ServiceSettings(model=script(rules=[{"answer": "word " * 500, "delay_s": 0.01}])))
        await service.start()
        answer = await service.messages(body(), client="local", request_id="req_1")
        task = asyncio.create_task(answer.message())
        await asyncio.sleep(0.1)
        await service.close()

        with pytest.raises(Overloaded) as refused:
            await task
        assert "retry-after" in refused.value.headers()

    run(check())


def test_unloading_ends_running_streams_and_says_so(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "word " * 500, "delay_s": 0.01}])) as service:
            task = asyncio.create_task(ask(service))
            await asyncio.sleep(0.2)
            await service.unload("play")
            end = terminal(await task)

            assert isinstance(end, ErrorEvent)
            assert end.body["error"]["message"] == "the model was unloaded"

    run(check())


def test_prompt_too_long_is_refused_before_any_work(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(model := script(n_ctx=64)) as service:
            await service.load(model)
            with pytest.raises(InvalidRequest, match=r"^prompt is too long: \d+ tokens > 63 maximum$"):
                await ask(service, "word " * 100)

            assert service.trace("req_1", "local")["ending"] == "error"

    run(check())


def test_queue_full_is_529_with_retry_after(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"answer": "word " * 50, "delay_s": 0.01}]
        async with serving(model := script(rules=rules, max_sequences=1), max_waiting=1) as service:
            await service.load(model)
            tasks = [asyncio.create_task(ask(service, id=f"r{i}")) for i in range(2)]
            await asyncio.sleep(0.1)
            with pytest.raises(Overloaded) as refused:
                await ask(service, id="r3")
            await asyncio.gather(*tasks)

            assert "retry-after" in refused.value.headers()

    run(check())


def test_a_load_is_told_in_per_cent_by_pings_and_status(script: Callable[..., str]) -> None:
    go = threading.Event()

    def load(source: ModelSource, ctx: int | None, progress: Callable[[float], None]) -> Runtime:
        progress(0.42)
        assert go.wait(30)
        return ScriptedRuntime(Script.parse({}, name="held"))

    async def main() -> None:
        async with serving(script(), load=load) as service:
            answer = await service.messages(body(stream=True), client="c", request_id="req_1")
            events = answer.events()
            ping = await anext(events)
            while not (isinstance(ping, Ping) and ping.data()["nbllama"]["load"]):
                ping = await anext(events)
            status = service.status()
            assert ping.data()["nbllama"] == {"state": "loading", "load": 0.42}
            assert status["requests"] == [{"model": "play", "state": "loading", "load": 0.42}]
            assert (status["models"][0]["state"], status["models"][0]["load"]) == ("loading", 0.42)
            go.set()
            rest = [event async for event in events]
            assert isinstance(rest[-1], MessageStop)
            assert service.status()["requests"] == []
            assert service.status()["models"][0]["device"] == "script"

    asyncio.run(main())


def test_a_cold_stream_pings_before_it_starts(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "Hello."}])) as service:
            events = await ask(service, stream=True)

            assert isinstance(events[0], Ping)
            assert events[0].progress["state"] in ("unloaded", "loading")
            start = next(event for event in events if not isinstance(event, Ping))
            assert isinstance(start, MessageStart)
            assert start.message["usage"]["input_tokens"] > 0

    run(check())


def test_a_model_whose_template_is_broken_is_freed(script: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        load, closed = HeldLoader(chat_template="{% if %}"), threading.Event()
        load.go.set()
        monkeypatch.setattr(load.runtime, "close", closed.set)
        async with serving(script(), load=load) as service:
            with pytest.raises(ApiError):
                await ask(service)

            assert closed.is_set()
            assert service.status()["models"][0]["state"] == "failed"

    run(check())


def test_another_context_is_refused_while_the_model_loads(script: Callable[..., str]) -> None:
    async def check() -> None:
        load = HeldLoader(n_ctx=512)
        async with serving(model := script(), load=load) as service:
            first = asyncio.create_task(service.load(model, ctx=512))
            second = asyncio.create_task(service.load(model, ctx=256))
            await asyncio.sleep(0.1)
            load.go.set()

            assert (await first)["n_ctx"] == 512
            with pytest.raises(InvalidRequest, match=r"512 tokens, not 256"):
                await second

    run(check())


def test_a_loaded_model_answers_when_its_file_has_gone(script: Callable[..., str]) -> None:
    async def check() -> None:
        ref = script(rules=[{"answer": "Still here."}])
        async with serving(ref) as service:
            await ask(service)
            Path(ref.removeprefix("scripted:")).unlink()

            assert stop_reason(await ask(service, id="req_2")) == "end_turn"

    run(check())


def test_a_name_is_not_another_models_id(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(name="demo")) as service:
            await ask(service)
            with pytest.raises(ApiError, match="a model with the id demo is there already"):
                await service.load("demo")

    run(check())


def test_a_model_that_cannot_load_is_an_error_that_is_not_retried(tmp_path: Path) -> None:
    async def check() -> None:
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"GGUF" + bytes(64))
        async with serving(str(broken)) as service:
            with pytest.raises(ApiError, match="broken") as refused:
                await ask(service)
            events = await ask(service, id="req_2", stream=True)

            assert refused.value.headers()["x-should-retry"] == "false"
            assert isinstance(terminal(events), ErrorEvent)
            assert service.status()["models"][0]["state"] == "failed"

    run(check())


def test_usage_adds_up_with_the_cache(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(rules=[{"answer": "ok"}])) as service:
            await ask(service, id="one")
            await ask(service, id="two")
            counted = await service.count_tokens(body(), client="local")
            one, two = (service.trace(id, "local")["message"]["usage"] for id in ("one", "two"))

            assert one["cache_read_input_tokens"] == 0
            assert one["input_tokens"] == counted["input_tokens"]
            assert two["cache_read_input_tokens"] > 0
            assert two["input_tokens"] + two["cache_read_input_tokens"] == counted["input_tokens"]

    run(check())


def test_traces_are_each_clients_own_and_bounded(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script(), trace_count=2) as service:
            for id in ("a", "b", "c"):
                await ask(service, id=id)

            assert [trace["id"] for trace in service.traces("local")] == ["c", "b"]
            assert service.traces("other") == []
            with pytest.raises(NotFound):
                service.trace("a", "local")
            with pytest.raises(NotFound):
                service.trace("c", "other")

    run(check())


def test_ten_streams_at_once(script: Callable[..., str]) -> None:
    async def check() -> None:
        rules = [{"when": f"n{i}!", "answer": f"answer {i} " + "word " * (i + 3)} for i in range(10)]
        async with serving(script(rules=rules, max_sequences=4)) as service:
            await asyncio.gather(*(ask(service, f"n{i}!", id=f"r{i}", stream=i % 2 == 0) for i in range(10)))

            for i in range(10):
                content = service.trace(f"r{i}", "local")["message"]["content"]
                assert content[0]["text"].strip() == (f"answer {i} " + "word " * (i + 3)).strip()

    run(check())


def test_the_demo_model_calls_a_tool_and_answers_from_its_result() -> None:
    async def check() -> None:
        async with serving("demo") as service:
            question = {"role": "user", "content": "What is the weather in Paris?"}
            await ask(service, messages=[question], tools=[WEATHER])
            called = service.trace("req_1", "local")["message"]
            call = next(block for block in called["content"] if block["type"] == "tool_use")
            result = {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": '{"temperature": 18, "sky": "cloudy"}',
            }
            history = [question, {"role": "assistant", "content": called["content"]}]
            messages = [*history, {"role": "user", "content": [result]}]
            await ask(service, id="req_2", messages=messages, tools=[WEATHER])
            answered = service.trace("req_2", "local")

            assert called["stop_reason"] == "tool_use"
            assert call["name"] == "get_weather"
            assert call["input"] == {"location": "Paris"}
            assert answered["ending"] == "done"
            assert answered["message"]["content"][0]["text"]
            assert answered["cached_tokens"] > 100

    run(check())


def test_a_script_gets_the_context_that_was_asked_for(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(model := script(n_ctx=64), ctx=32) as service:
            loaded = await service.load(model)

            assert loaded["n_ctx"] == 32

    run(check())


def test_loading_what_is_no_model_is_not_found_and_names_the_nearest(script: Callable[..., str]) -> None:
    async def check() -> None:
        async with serving(script()) as service:
            with pytest.raises(NotFound, match="did you mean demo"):
                await service.load("demoo")

    run(check())
