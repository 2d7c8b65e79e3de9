"""Our bytes through the official SDK, strict: its decoder, its accumulator, and its check of every field."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from anthropic import Anthropic, APIStatusError
from anthropic.types import Message

from nbllama.wire.answers import MessageBuilder
from nbllama.wire.errors import Overloaded
from nbllama.wire.events import ErrorEvent, Event
from nbllama.wire.sse import encode, encode_comment
from tests.wire.test_stream import START, TEXT, THINK, WHOLE


@contextmanager
def serving(events: Sequence[Event]) -> Iterator[Anthropic]:
    """A client whose every answer is these events."""
    body = encode_comment("a comment\nof two lines") + b"".join(map(encode, events))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing on the screen."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with Anthropic(base_url=url, api_key="k", max_retries=0, _strict_response_validation=True) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


def final_message(client: Anthropic) -> Message:
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        return stream.get_final_message()


def test_the_sdk_adds_the_stream_up_to_the_same_message_as_we_do() -> None:
    builder = MessageBuilder()
    for event in WHOLE:
        builder.add(event)

    with serving(WHOLE) as client:
        message = final_message(client)

    ours = Message.model_validate(builder.message(), strict=True)
    left, right = message.to_dict(exclude_none=True), ours.to_dict(exclude_none=True)
    assert left["content"] == right["content"]
    assert left["stop_reason"] == right["stop_reason"] == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (ours.usage.input_tokens, 4)


def test_an_error_in_the_stream_reaches_the_client_with_its_type() -> None:
    error = ErrorEvent(Overloaded("the worker died").body("req_1"))

    with (
        serving([START, *THINK, *TEXT[:2], error]) as client,
        pytest.raises(APIStatusError, match="the worker died") as raised,
    ):
        final_message(client)

    assert getattr(raised.value, "type", "overloaded_error") == "overloaded_error"
