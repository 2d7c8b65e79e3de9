"""`nbllama parse`: what a model wrote, as the message that clients get."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from nbllama.cli.chat_templates import (
    UsageError,
    add_source,
    answer_lines,
    chosen,
    field,
    of_file,
    read_json,
    read_text,
)

if TYPE_CHECKING:
    from nbllama.chat.template import ChatTemplate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser, required=False)
    parser.add_argument("--tools", metavar="tools.json", help="the request's tools, in Anthropic's shape")
    parser.add_argument("--prompt-tail", default="", metavar="TEXT", help="the end of the prompt: <think> may be there")
    parser.add_argument("--thinking", choices=("on", "off"), default="on", help="off: its tags stay in the text")
    parser.add_argument("--no-parallel", action="store_true", help="the answer ends with its first call")
    parser.add_argument("--explain", action="store_true", help="also each decision of the parser")
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="one object a line: template, tools, prompt_tail, thinking, parallel, text",
    )


def run(args: argparse.Namespace) -> int:
    if args.jsonl:
        return answer_lines(lambda asked: _line(args, asked))
    result = _parsed(
        chosen(args),
        read_text("-"),
        tools=read_json(args.tools) if args.tools else [],
        prompt_tail=args.prompt_tail,
        thinking=args.thinking == "on",
        parallel=not args.no_parallel,
        explain=args.explain,
    )
    json.dump(result, sys.stdout, ensure_ascii=False, indent=2)
    print()
    return 0


def _line(args: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    named = "template" in asked or not (args.template or args.model)
    return _parsed(
        of_file(field(asked, "template", str), args.bos, args.eos, args.format) if named else chosen(args),
        field(asked, "text", str),
        tools=asked.get("tools") or [],
        prompt_tail=field(asked, "prompt_tail", str, ""),
        thinking=field(asked, "thinking", bool, True),
        parallel=field(asked, "parallel", bool, True),
        explain=args.explain,
    )


def _parsed(
    template: ChatTemplate,
    text: str,
    *,
    tools: Any,
    prompt_tail: str,
    thinking: bool,
    parallel: bool,
    explain: bool,
) -> dict[str, Any]:
    from nbllama.answer.block_writer import BlockWriter, joined
    from nbllama.chat.explain import Step
    from nbllama.chat.parser import StreamParser
    from nbllama.chat.tail import answer_begun
    from nbllama.wire.answers import MessageBuilder, Usage, new_id, new_message
    from nbllama.wire.events import MessageStart

    format = template.format
    tail = answer_begun(format, prompt_tail, first=format.channels is not None)
    steps: list[Step] = []
    schemas = _schemas(tools)
    # What the prompt already says of the answer is part of the turn that is judged, other than on the wire.
    said = _says_something(StreamParser(format, "", schemas, thinking=thinking), tail, format.think)
    begun = tail.lstrip() if said else ""
    parser = StreamParser(
        format, "" if begun else tail, schemas, thinking=thinking, explain=steps.append if explain else None
    )
    writer = BlockWriter("shown", one_call=not parallel)
    events = joined([*writer.write(parser.feed(begun + text)), *writer.write(parser.finish()), *writer.close()])
    builder = MessageBuilder()
    builder.add(MessageStart(new_message(new_id("msg"), "", Usage().to_dict())))
    for event in events:
        builder.add(event)
    result = {"content": builder.message()["content"], "events": [event.data() for event in events]}
    return result | ({"steps": [_step(step, tail + text) for step in steps]} if explain else {})


def _says_something(parser: Any, tail: str, think: Any) -> bool:
    """Whether a prompt's end holds thinking, text or a call, and not only the markers around thinking."""
    from nbllama.chat.pieces import TextDelta, ThinkDelta, ToolStart

    pieces = [*parser.feed(tail), *parser.finish()]
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta | ThinkDelta))
    for marker in (think.open.strip(), think.close.strip()) if think else ():
        said = said.replace(marker, "") if marker else said
    return bool(said.strip()) or any(isinstance(piece, ToolStart) for piece in pieces)


def _schemas(tools: Any) -> dict[str, Any]:
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "name" in tool for tool in tools):
        raise UsageError("tools: should be a list of objects with name and input_schema")
    return {str(tool["name"]): tool.get("input_schema") or {} for tool in tools}


def _step(step: Any, text: str) -> dict[str, Any]:
    return {
        "start": step.start,
        "end": step.end,
        "text": text[step.start : step.end],
        "state": step.state,
        "decision": step.decision,
        "pieces": [repr(piece) for piece in step.pieces],
    }
