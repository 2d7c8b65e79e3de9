"""Templates and requests for the tests of chat."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from nbllama.wire.requests import MessagesRequest, parse_messages_request

# A busy machine is no failure.
settings.register_profile("nbllama", deadline=None)
settings.load_profile("nbllama")

SHARED = Path(os.environ.get("NBLLAMA_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TEMPLATES = sorted((SHARED / "templates").glob("*.jinja"))
NO_TEMPLATES = pytest.param(None, marks=pytest.mark.skip(f"no templates in {SHARED}: set NBLLAMA_SHARED"))

# Short, and yet all that matters: system, tools, thinking, calls, results, an empty thinking in the prompt.
QWEN_LIKE = """\
{%- if tools or messages[0].role == 'system' -%}
{{- '<|im_start|>system\\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content | trim -}}{%- endif -%}
{%- if tools -%}{{- '\\n<tools>' -}}{%- for tool in tools -%}{{- '\\n' -}}{{- tool | tojson -}}{%- endfor -%}
{{- '\\n</tools>' -}}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if message.reasoning_content -%}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}{%- endif -%}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
{{- call.function.arguments | tojson -}}{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}
{%- if not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}
"""
CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}}},
}
DIALOGUE: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Paris?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "a tool knows", "signature": "s"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 degrees"}]},
]

RequestMaker = Callable[..., MessagesRequest]


@pytest.fixture
def make_request() -> RequestMaker:
    """Keyword arguments over a request that says Hello."""

    def make(**fields: Any) -> MessagesRequest:
        body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]} | fields
        return parse_messages_request(json.dumps(body).encode())

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a real template; one skipped test where there are none."""
    if "real_template" in metafunc.fixturenames:
        metafunc.parametrize(
            "real_template", TEMPLATES or [NO_TEMPLATES], ids=lambda path: path.stem if path else "none"
        )
