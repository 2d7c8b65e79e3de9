"""A recorded answer as a text to be read again, by the same format or another one. Pure."""

from __future__ import annotations

from typing import Any

from nbllama.views.answer_parts import answer_offsets
from nbllama.views.reading import Reading, Record


def as_asked(record: Record) -> dict[str, Any]:
    """text, tools, prompt_tail, cuts and parallel, as `nbllama/parse` takes them."""
    reading = Reading(record)
    request, text = reading.mapping("request"), reading.text("output_text")
    choice = request.get("tool_choice")
    choice = choice if isinstance(choice, dict) else {}
    stop = reading.mapping("message").get("stop_sequence")
    if isinstance(stop, str) and stop in text:
        # What came behind it the parser never saw.
        text = text[: text.index(stop)]
    offered = request.get("tools") if choice.get("type") != "none" else None
    tools = [one for one in offered if isinstance(one, dict) and "name" in one] if isinstance(offered, list) else []
    # Where the parser began below 0, it read the prompt's end first.
    begun = -min([0, *(step["start"] for step in reading.mappings("parser_steps") if type(step.get("start")) is int)])
    prompt = reading.text("prompt")
    return {
        "text": text,
        "tools": tools,
        "prompt_tail": prompt[len(prompt) - begun :],
        # As it came, so that the steps are those of then.
        "cuts": answer_offsets(reading),
        "parallel": choice.get("disable_parallel_tool_use") is not True,
    }
