"""What the SDK builds on the wire: stream helpers, the tool runner, parsed answers, with a scripted model's answers."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic.lib.tools import ToolError

from tests.live_sdk.conftest import PYTHON
from tests.serve_process import TOKEN, serving

CALL = json.dumps({"name": "get_weather", "arguments": {"city": "Paris"}})
THOUGHT, ORDER = "Five, seven, five.", {"product": "Green Tea", "quantity": 2}
SCRIPT = {
    "rules": [
        {"when": "18 degrees", "answer": "It is 18 degrees."},
        {"when": "The thermometer is broken", "answer": "I cannot say."},
        {"when": "the weather in", "answer": f"I will look.\n<tool_call>\n{CALL}\n</tool_call>"},
        {"when": "order", "answer": json.dumps(ORDER)},
        {"when": "break", "answer": "This stream will break in the middle.", "fail_after": 3},
        {"when": "haiku", "answer": f"<think>\n{THOUGHT}\n</think>\n\nA short poem."},
    ],
    "default": "Hello there.",
}


class Order(pydantic.BaseModel):
    product: str
    quantity: int


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[anthropic.Anthropic]:
    script = tmp_path_factory.mktemp("script") / "helpers.json"
    script.write_text(json.dumps(SCRIPT))
    with serving(f"scripted:{script}", python=PYTHON) as door:
        yield anthropic.Anthropic(base_url=door.url, api_key=TOKEN, max_retries=0, _strict_response_validation=True)


def ask(text: str, **fields: Any) -> Any:
    return {"model": "m", "max_tokens": 2048, "messages": [{"role": "user", "content": text}], **fields}


def test_the_stream_helpers_see_each_kind_of_event(client: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "adaptive", "display": "summarized"}
    with client.messages.stream(**ask("A haiku, please.", thinking=thinking)) as stream:
        events = list(stream)
        message = stream.get_final_message()

    thought = "".join(event.thinking for event in events if event.type == "thinking")
    text = "".join(event.text for event in events if event.type == "text")
    assert (thought, text) == (THOUGHT, "A short poem.")
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert "signature" in [event.type for event in events]
    assert [event.type for event in events][-1] == "message_stop"


# Its runner leaves the streams of 1.x to the garbage collector, whose warning may come in any later test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_goes_on_until_there_is_an_answer(client: anthropic.Anthropic, stream: bool) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "18 degrees"

    runner: Any = client.beta.messages.tool_runner(
        **ask("What is the weather in Paris?", tools=[get_weather], stream=stream)
    )
    message = runner.until_done()
    gc.collect()

    assert asked == ["Paris"]
    assert [block.text for block in message.content] == ["It is 18 degrees."]


def test_a_tool_that_fails_is_told_to_the_model(client: anthropic.Anthropic) -> None:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        raise ToolError("The thermometer is broken")

    runner = client.beta.messages.tool_runner(**ask("What is the weather in Paris?", tools=[get_weather]))
    message = runner.until_done()

    assert message.content[0].type == "text"
    assert message.content[0].text == "I cannot say."


def test_parse_gives_an_object_of_ones_own_class(client: anthropic.Anthropic) -> None:
    parsed = client.messages.parse(**ask("What was the order?", output_format=Order))
    with client.messages.stream(**ask("What was the order?", output_format=Order)) as stream:
        streamed = stream.get_final_message()

    assert parsed.parsed_output == streamed.parsed_output == Order(product="Green Tea", quantity=2)


def test_a_stream_that_breaks_is_an_error_and_no_answer(client: anthropic.Anthropic) -> None:
    pieces: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as broken, client.messages.stream(**ask("Please break.")) as stream:
        pieces += stream.text_stream

    assert "This stream will break".startswith("".join(pieces))
    assert isinstance(broken.value.body, dict)
    assert broken.value.body["error"]["type"] == "api_error"


def test_what_is_not_there_is_not_found(client: anthropic.Anthropic) -> None:
    for missing in (client.messages.batches.list, client.beta.files.list):
        with pytest.raises(anthropic.NotFoundError) as refused:
            missing()
        assert refused.value.request_id
