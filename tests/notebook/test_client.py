"""The official client: where its requests go, what they carry, and what it is told when the worker dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import pytest

import nbllama
from tests.notebook.fake_worker import DIE, HOLD, FakeWorker, start_of_text, text, text_answer

HELLO: Any = {"model": "fake", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
STRICT: Any = {"_strict_response_validation": True, "max_retries": 0}


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_create_and_count(worker: FakeWorker) -> None:
    client = nbllama.client(**STRICT)

    assert isinstance(client, anthropic.Anthropic)
    assert text_of(client.messages.create(**HELLO)) == "Hello"
    assert client.messages.count_tokens(model="fake", messages=HELLO["messages"]).input_tokens == 7
    assert [model.id for model in nbllama.client().models.list()] == ["fake"]


def test_stream(worker: FakeWorker) -> None:
    with nbllama.client(**STRICT).messages.stream(**HELLO) as stream:
        pieces = list(stream.text_stream)

    assert pieces == ["Hello", " there"]
    assert nbllama.last is not None and nbllama.last.id == "req_fake"


def test_async(worker: FakeWorker) -> None:
    async def ask() -> list[str]:
        async with nbllama.async_client(**STRICT) as client:
            created = text_of(await client.messages.create(**HELLO))
            async with client.messages.stream(**HELLO) as stream:
                return [created, *[piece async for piece in stream.text_stream]]

    assert asyncio.run(ask()) == ["Hello", "Hello", " there"]


def test_only_known_headers_and_no_real_key_reach_the_worker(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-real")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Corp: secret\nAuthorization: Bearer sk-real\nnbllama-client: eve")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    nbllama.client(default_headers={"anthropic-beta": "a-beta"}).messages.create(**HELLO)

    (received,) = worker.requests("/v1/messages")
    assert received.headers["anthropic-beta"] == "a-beta"
    assert received.headers["content-type"] == "application/json"
    assert not {"x-corp", "authorization", "x-api-key", "nbllama-client"} & set(received.headers)
    assert "real" not in str(received.headers)


def test_attached_once_per_process(worker: FakeWorker) -> None:
    nbllama.client().messages.create(**HELLO)
    nbllama.client().messages.create(**HELLO)
    nbllama.traces()

    assert worker.attached == 1


@pytest.mark.parametrize("last_bytes", [b"", b'event: content_block_delta\ndata: {"type": "content_'])
def test_a_stream_that_the_worker_could_not_end_raises(worker: FakeWorker, last_bytes: bytes) -> None:
    worker.steps = [*start_of_text(), text("Hel"), *([last_bytes] if last_bytes else []), DIE]
    pieces = []
    with (
        pytest.raises(anthropic.APIStatusError, match="the worker went away"),
        nbllama.client(**STRICT).messages.stream(**HELLO) as stream,
    ):
        for piece in stream.text_stream:
            pieces.append(piece)

    assert pieces == ["Hel"]


def test_an_async_stream_that_the_worker_could_not_end_raises(worker: FakeWorker) -> None:
    worker.steps = [*start_of_text(), text("Hel"), DIE]

    async def ask() -> None:
        async with nbllama.async_client(**STRICT) as client, client.messages.stream(**HELLO) as stream:
            await stream.get_final_message()

    with pytest.raises(anthropic.APIStatusError, match="the worker went away"):
        asyncio.run(ask())


def test_a_cut_stream_that_had_ended_is_whole(worker: FakeWorker) -> None:
    worker.steps = [*text_answer("Hello"), DIE]
    with nbllama.client(**STRICT).messages.stream(**HELLO) as stream:
        assert text_of(stream.get_final_message()) == "Hello"


def test_leaving_a_stream_closes_the_socket(worker: FakeWorker) -> None:
    worker.steps = [*start_of_text(), text("Hel"), HOLD]
    with nbllama.client(**STRICT).messages.stream(**HELLO) as stream:
        next(iter(stream.text_stream))

    assert worker.client_gone.wait(10)


def test_the_request_after_a_death_finds_the_next_worker(worker: FakeWorker, runtime: Path) -> None:
    client = nbllama.client(**STRICT)
    client.messages.create(**HELLO)
    worker.die()

    with FakeWorker(runtime, name="next") as following:
        assert text_of(client.messages.create(**HELLO)) == "Hello"
        assert following.attached == 1


# httpcore2 does not close the Unix socket with which it could not connect.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_accepts_nothing_more_is_replaced(worker: FakeWorker, runtime: Path) -> None:
    client = nbllama.client(**STRICT)
    client.messages.create(**HELLO)
    worker.stop_listening()

    with FakeWorker(runtime, name="next") as following:
        client.messages.create(**HELLO)
        asyncio.run(nbllama.async_client(**STRICT).messages.create(**HELLO))

        assert len(following.requests("/v1/messages")) == 2


def test_no_worker_is_said_in_the_apis_words(runtime: Path) -> None:
    with pytest.raises(anthropic.InternalServerError, match="no worker is running"):
        nbllama.client().messages.create(**HELLO)


def test_another_server_gets_its_own_key_only(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Corp: secret\nAuthorization: Bearer sk-real")
    with FakeWorker(None) as server:
        client = nbllama.client(base_url=f"{server.url}/below/", api_key="its-key", default_headers={"X-Mine": "yes"})
        client.messages.create(**HELLO)

        (received,) = server.requests("/below/v1/messages")
        assert received.headers["x-api-key"] == "its-key"
        assert received.headers["x-mine"] == "yes"
        assert not {"x-corp", "authorization"} & set(received.headers)
        assert server.attached == 0


def test_the_environment_names_another_server(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeWorker(None) as server:
        monkeypatch.setenv("NBLLAMA_BASE_URL", f"{server.url}/below")
        monkeypatch.setenv("NBLLAMA_API_KEY", "its-key")
        nbllama.client().messages.create(**HELLO)

        (received,) = server.requests("/below/v1/messages")
        assert received.headers["x-api-key"] == "its-key"
        assert received.headers["host"] == server.url.removeprefix("http://")


def test_a_copy_with_another_base_url_reaches_nobody(worker: FakeWorker) -> None:
    client = nbllama.client(max_retries=0)
    with pytest.raises(anthropic.BadRequestError, match=r"does not talk to api\.example"):
        client.with_options(base_url="https://api.example", api_key="sk-real").messages.create(**HELLO)

    assert worker.requests("/v1/messages") == []


def test_http_client_is_refused() -> None:
    with pytest.raises(TypeError, match="http_client"):
        nbllama.client(http_client=object())
