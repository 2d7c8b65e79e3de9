"""Tools for models whose template knows none: JSON between tags, as text of the system, assistant and user turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nbllama.chat.format import CallTags

_INTRODUCTION = "You may call one or more of these tools to help with the request:\n<tools>"
_INSTRUCTION = """</tools>

To call a tool, answer with a JSON object with its name and arguments inside {open}{close} tags:
{open}
{{"{name}": <tool name>, "{arguments}": <arguments as a JSON object>}}
{close}"""


def describe_tools(tools: Sequence[dict[str, Any]], tags: CallTags) -> str:
    """The part of the system turn that presents `tools`, which are in OpenAI's shape."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    instruction = _INSTRUCTION.format(
        open=tags.open, close=tags.close, name=tags.name_key, arguments=tags.arguments_key
    )
    return "\n".join([_INTRODUCTION, *lines, instruction])


def call_text(name: str, arguments: dict[str, Any], tags: CallTags) -> str:
    """A call as the model would have written it."""
    call = {tags.name_key: name, tags.arguments_key: arguments}
    return f"{tags.open}\n{json.dumps(call, ensure_ascii=False)}\n{tags.close}"


def result_text(content: str) -> str:
    """A tool's result in a user turn."""
    return f"<tool_response>\n{content}\n</tool_response>"
