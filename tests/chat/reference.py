"""The cases of llama.cpp's own tests, of round trips and of imperfect output, and how they are compared."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from nbllama.answer.partial_json import PartialJson
from nbllama.chat.format import Format
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import Piece, TextDelta, ThinkDelta, ToolArgsDelta, ToolStart
from nbllama.chat.tail import answer_begun
from nbllama.chat.template import ChatTemplate
from tests.chat.conftest import SHARED

DATA = SHARED / "reference" / "parsing" / "data"


def load(name: str) -> list[dict[str, Any]]:
    """The cases of a file; none where there are no shared files."""
    path = DATA / f"{name}.json"
    if not path.exists():
        return []
    data = json.loads(path.read_text(encoding="utf-8"))
    return list(data["cases"] if isinstance(data, dict) else data)


@cache
def template_of(file: str, bos: str = "<s>", eos: str = "</s>") -> ChatTemplate:
    source = (SHARED / "templates" / Path(file).name).read_text(encoding="utf-8")
    return ChatTemplate(source, bos=bos, eos=eos, control_tokens=())


def chunkings(text: str) -> list[list[str]]:
    """Whole, by character, and three at random."""
    cuts = [[text], list(text)]
    for seed in range(3):
        dice, parts, start = random.Random(seed), [], 0
        while start < len(text):
            size = dice.randint(1, 7)
            parts.append(text[start : start + size])
            start += size
        cuts.append(parts)
    return cuts


def outcomes(case: dict[str, Any], template: ChatTemplate) -> list[dict[str, Any]]:
    """One for each way to cut the case's output; a prefill is part of what is expected."""
    format, options = template.format, case["options"]
    prompt = case["generation_prompt"] if "generation_prompt" in case else case["prompt_after_last_user_text"]
    tail = answer_begun(format, prompt, first=format.channels is not None)
    tools_on = options.get("tool_choice") != "none" and not options.get("json_schema")
    tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in case["tools"] if tools_on}
    thinking = options.get("reasoning_format") != "none"
    results = []
    for chunks in chunkings(case["raw_output"]):
        if options.get("continue_final_message"):
            results.append(_outcome(format, "", [tail, *chunks], tools, thinking))
        else:
            results.append(_outcome(format, tail, chunks, tools, thinking))
    return results


def _outcome(format: Format, tail: str, chunks: list[str], tools: Any, thinking: bool) -> dict[str, Any]:
    parser = StreamParser(format, tail, tools, thinking=thinking)
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + parser.finish()
    return message_of(pieces)


def message_of(pieces: list[Piece]) -> dict[str, Any]:
    """The message in the shape of the cases, arguments as they would be on the wire."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for piece in pieces:
        if isinstance(piece, TextDelta):
            message["content"] += piece.text
        elif isinstance(piece, ThinkDelta):
            message["reasoning_content"] += piece.text
        elif isinstance(piece, ToolStart):
            message["tool_calls"].append({"name": piece.name, "arguments": "", "id": piece.id or ""})
        elif isinstance(piece, ToolArgsDelta):
            message["tool_calls"][piece.index]["arguments"] += piece.json
    for call in message["tool_calls"]:
        wire = PartialJson()
        call["arguments"] = wire.feed(call["arguments"]) + wire.close()
    return message


def differences(case: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """By the rules of the cases: text stripped, arguments as JSON, those that are no JSON not at all, ids exact."""
    expected = case.get("expected") or case["suggested"]
    found = []
    content = _unfenced(got["content"]) if case["options"].get("json_schema") else got["content"]
    if expected["content"].strip() != content.strip():
        found.append(f"content {content!r}, not {expected['content']!r}")
    if expected["reasoning_content"].strip() != got["reasoning_content"].strip():
        found.append(f"thinking {got['reasoning_content']!r}, not {expected['reasoning_content']!r}")
    names = [[call["name"] for call in message["tool_calls"]] for message in (expected, got)]
    if names[0] != names[1]:
        return [*found, f"calls {names[1]}, not {names[0]}"]
    for number, (wanted, call) in enumerate(zip(expected["tool_calls"], got["tool_calls"], strict=True)):
        if _comparable(case, number, wanted) and json.loads(wanted["arguments"]) != json.loads(call["arguments"]):
            found.append(f"arguments {call['arguments']}, not {wanted['arguments']}")
        if wanted.get("id") and wanted["id"] != call["id"]:
            found.append(f"id {call['id']!r}, not {wanted['id']!r}")
    return found


def _comparable(case: dict[str, Any], number: int, wanted: dict[str, Any]) -> bool:
    if "arguments_comparable" in case:
        return bool(case["arguments_comparable"][number])
    try:
        json.loads(wanted["arguments"])
    except ValueError:
        return False
    return True


def _unfenced(text: str) -> str:
    return text.strip().removeprefix("```json").removesuffix("```").strip()
