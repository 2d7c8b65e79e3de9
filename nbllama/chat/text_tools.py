"""What no template presents, as text of the system, assistant and user turns: tools where it has none, a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nbllama.chat.format import Calls

_INTRODUCTION = "You may call one or more of these tools to help with the request:\n<tools>"
_IN_TAGS = "To call a tool, answer with a JSON object with its name and arguments inside {tags} tags:"
_OTHERWISE = "To call a tool, answer in this form:"
_SCHEMA = "Answer with JSON that fits this schema:"


def describe_tools(tools: Sequence[dict[str, Any]], calls: Calls) -> str:
    """The part of the system turn that presents `tools`, which are in OpenAI's shape."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    tags = calls.open.strip() + calls.close.strip()
    how = _IN_TAGS.format(tags=tags) if calls.syntax == "json" and calls.open.strip() else _OTHERWISE
    example = _written(calls, "<tool name>", "<arguments as a JSON object>", {"<argument>": "<value>"})
    return "\n".join([_INTRODUCTION, *lines, "</tools>", "", how, example])


def describe_schema(schema: Any) -> str:
    """The part of the system turn that tells what a structured output is to be.

    The API's own models are told so, too; without it a model must guess from the request what the grammar lets it say.
    """
    return f"{_SCHEMA}\n{json.dumps(schema, ensure_ascii=False)}" if schema else "Answer with JSON."


def call_text(name: str, arguments: dict[str, Any], calls: Calls) -> str:
    """A call as the model would have written it."""
    return _written(calls, json.dumps(name, ensure_ascii=False), json.dumps(arguments, ensure_ascii=False), arguments)


def result_text(content: str) -> str:
    """A tool's result in a user turn."""
    return f"<tool_response>\n{content}\n</tool_response>"


def _written(calls: Calls, name: str, arguments: str, by_key: dict[str, Any]) -> str:
    """`name` as JSON where that is its place; arguments as one JSON text or by key, as the syntax wants them."""
    bare_name = json.loads(name) if name.startswith('"') else name
    match calls.syntax:
        case "json":
            inner = f'{{"{calls.name_path[-1]}": {name}, "{calls.arguments_path[-1]}": {arguments}}}'
            inner = f"[{inner}]" if calls.array else inner
        case "tag_json":
            inner = bare_name + calls.middle + arguments
        case "tagged":
            pairs = [
                calls.key_open + key + calls.value_open + _raw(value) + calls.value_close
                for key, value in by_key.items()
            ]
            inner = bare_name + calls.name_close + "".join(pairs)
        case _:
            inner = f"[{bare_name}({', '.join(f'{key}={value!r}' for key, value in by_key.items())})]"
    text = calls.section_open + calls.open + inner + calls.close + calls.section_close
    return text.replace("{id}", "call00001").replace("{any}", "0").strip()


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
