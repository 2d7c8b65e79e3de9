"""What is in generated dialogues: their text, the tools that they offer, and the calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from demo_model.dialogues import Group, Segment


def text_of(groups: Iterable[Group]) -> str:
    return "\n".join(group.prefix + "".join(map(said, group.branches)) for group in groups)


def said(branch: Iterable[Segment]) -> str:
    return "".join(text for text, _ in branch)


def calls_in(text: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each call's tool, as the system turn before it lists it, and the arguments."""
    for turns in text.split("<|im_start|>system\n"):
        shown = re.search(r"<tools>\n(.*?)\n</tools>", turns, re.S)
        tools = {tool["name"]: tool for tool in map(json.loads, shown[1].splitlines())} if shown else {}
        for found in re.finditer(r"<tool_call>\n(.*?)\n</tool_call>", turns, re.S):
            made = json.loads(found[1])
            yield tools[made["name"]], made["arguments"]
