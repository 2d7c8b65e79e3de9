"""A request → messages in the shape that chat templates expect (OpenAI's), as far as this template can take them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbllama.chat.block_texts import is_text, text_of
from nbllama.chat.capabilities import Capabilities, image_part, thinking_parts
from nbllama.chat.format import JSON_IN_TAGS, Format
from nbllama.chat.prompt import Origin
from nbllama.chat.reshaping import reshaped
from nbllama.chat.text_tools import call_text, describe_schema, describe_tools, result_text
from nbllama.chat.turns import Turn, turns_of
from nbllama.wire.content import ImageBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from nbllama.wire.requests import CountTokensRequest

Write = Callable[[str, Origin], str]
"""How a text that is not the template's enters the prompt: as it is, with its control tokens broken, or marked."""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """`prefill` is the trailing assistant message: it follows the rendered text as it is."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None
    prefill: str


def converse(
    request: CountTokensRequest, can: Capabilities, format: Format, write: Write, *, images: bool = False
) -> Conversation:
    """Raises UnsupportedContent for documents that are no text, and for images unless they may become placeholders.

    Every text of the request passes through `write` once.
    """
    return _Builder(request, can, format, write, images=images).build()


class _Builder:
    def __init__(
        self, request: CountTokensRequest, can: Capabilities, format: Format, write: Write, *, images: bool
    ) -> None:
        self._images = images
        self._request = request
        self._can = can
        self._format = format
        self._calls = format.calls or JSON_IN_TAGS
        self._write = write
        self._names: dict[str, str] = {}

    def build(self) -> Conversation:
        turns = list(turns_of(self._request, self._can, self._images))
        prefill_turn = turns.pop() if turns and turns[-1].role == "assistant" else None
        tools = [self._tool(tool) for tool in self._request.tools]
        system = self._system(tools)
        messages = [{"role": "system", "content": system}] if system else []
        for turn in turns:
            messages += self._messages(turn)
        if self._can.system == "nowhere" and system:
            messages = _merge_into_first_user(messages)
        messages = reshaped(messages, self._can)
        prefill = self._prefill(prefill_turn) if prefill_turn else ""
        return Conversation(messages, tools if tools and self._can.tools else None, prefill)

    def _system(self, tools: list[dict[str, Any]]) -> str:
        parts = [
            self._write(block.text, Origin("system", None, index)) for index, block in enumerate(self._request.system)
        ]
        if tools and not self._can.tools:
            parts.append(describe_tools(tools, self._calls))
        # At the end: requests with another schema share what stands before it.
        if self._request.output_schema is not None:
            parts.append(self._write(describe_schema(self._request.output_schema), Origin("format")))
        return "\n\n".join(parts)

    def _tool(self, tool: Any) -> dict[str, Any]:
        origin = Origin("tools")
        function = {
            "name": self._write(tool.name, origin),
            "description": self._write(_description(tool), origin),
            "parameters": self._schema(tool.input_schema, origin),
        }
        if self._can.described_arguments:
            for argument in function["parameters"].get("properties", {}).values():
                if isinstance(argument, dict):
                    argument.setdefault("description", "")
        return {"type": "function", "function": function}

    def _schema(self, value: Any, origin: Origin, key: str = "") -> Any:
        """Templates compare what a schema says (`type == "string"`): only its prose is marked as the user's."""
        if isinstance(value, dict):
            return {self._plain(name): self._schema(part, origin, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self._schema(part, origin) for part in value]
        if isinstance(value, str):
            return self._write(value, origin) if key == "description" else self._plain(value)
        return value

    def _plain(self, text: str) -> str:
        return self._write(text, KEY)

    def _messages(self, turn: Turn) -> list[Message]:
        if turn.role == "system":
            return [{"role": "system", "content": self._texts(turn.blocks, "\n")}]
        return [self._assistant(turn)] if turn.role == "assistant" else self._user(turn)

    def _texts(self, blocks: list[tuple[Any, Origin]], glue: str) -> str:
        texts = [self._write(text_of(block), origin) for block, origin in blocks if is_text(block)]
        return glue.join(texts)

    def _user(self, turn: Turn) -> list[Message]:
        """Results go before the text of the same turn, which is what the model is to answer."""
        results = [(block, origin) for block, origin in turn.blocks if isinstance(block, ToolResultBlock)]
        if not self._can.results:
            shown = [result_text(self._result_text(block, origin)) for block, origin in results]
            text = self._texts(turn.blocks, "\n")
            return [{"role": "user", "content": "\n".join([*shown, *([text] if text else [])])}]
        messages = [self._result(block, origin) for block, origin in results]
        text = self._texts(turn.blocks, "\n")
        if messages and text and not self._can.text_after_results:
            messages[-1]["content"] += f"\n\n{text}"
            return messages
        if self._can.images and any(isinstance(block, ImageBlock) for block, _ in turn.blocks):
            return [*messages, {"role": "user", "content": self._parts(turn.blocks)}]
        return [*messages, {"role": "user", "content": text}] if text else messages

    def _parts(self, blocks: list[tuple[Any, Origin]]) -> list[dict[str, Any]]:
        """Text and images in their order."""
        return [
            image_part()
            if isinstance(block, ImageBlock)
            else {"type": "text", "text": self._write(text_of(block), origin)}
            for block, origin in blocks
            if is_text(block)
        ]

    def _result(self, block: ToolResultBlock, origin: Origin) -> Message:
        return {
            "role": "tool",
            "tool_call_id": self._id(block.tool_use_id),
            "name": self._plain(self._names.get(block.tool_use_id, "")),
            "content": self._result_text(block, origin),
        }

    def _result_text(self, block: ToolResultBlock, origin: Origin) -> str:
        text = "\n".join(text_of(part) for part in block.content)
        if block.is_error:
            text = f"Error: {text}" if text else "Error"
        return self._write(text, Origin("tool_result", origin.message, origin.block))

    def _assistant(self, turn: Turn) -> Message:
        text = self._texts(turn.blocks, "\n")
        calls = [(block, origin) for block, origin in turn.blocks if isinstance(block, ToolUseBlock)]
        self._names |= {block.id: block.name for block, _ in calls}
        message: Message = {"role": "assistant", "content": text}
        thoughts = "\n".join(self._write(b.thinking, o) for b, o in turn.blocks if isinstance(b, ThinkingBlock))
        if thoughts:
            message |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), thoughts)
        if calls and self._can.calls:
            message["tool_calls"] = [self._call(block, origin) for block, origin in calls]
            message["content"] = text or self._can.content_beside_calls
        elif calls:
            message["content"] = "\n".join([*([text] if text else []), *(self._call_text(*call) for call in calls)])
        if thoughts and self._can.reasoning_parts:
            message["content"] = thinking_parts(thoughts, message["content"] or "")
        return message

    def _call(self, block: ToolUseBlock, origin: Origin) -> dict[str, Any]:
        arguments = self._json(block.input, origin)
        if self._can.arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": self._write(block.name, origin), "arguments": arguments}
        return {"id": self._id(block.id), "type": "function", "function": function}

    def _call_text(self, block: ToolUseBlock, origin: Origin) -> str:
        return call_text(self._write(block.name, origin), self._json(block.input, origin), self._calls)

    def _json(self, value: Any, origin: Origin) -> Any:
        if isinstance(value, dict):
            return {self._plain(key): self._json(part, origin) for key, part in value.items()}
        if isinstance(value, list):
            return [self._json(part, origin) for part in value]
        return self._write(value, origin) if isinstance(value, str) else value

    def _id(self, id: str) -> str:
        """Mistral's templates refuse ids that are not nine letters and digits."""
        return hashlib.sha256(id.encode()).hexdigest()[:9] if self._can.short_ids else self._plain(id)

    def _prefill(self, turn: Turn) -> str:
        """The answer so far, as the model would have written it."""
        parts = []
        for block, origin in turn.blocks:
            place = Origin("prefill", origin.message, origin.block)
            if isinstance(block, ThinkingBlock) and self._format.think and block.thinking:
                think = self._format.think
                parts.append(f"{think.open}\n{self._write(block.thinking, place)}\n{think.close}\n\n")
            elif isinstance(block, ToolUseBlock):
                parts.append(self._call_text(block, place) + "\n")
            elif is_text(block):
                parts.append(self._write(text_of(block), place))
        return "".join(parts)


KEY = Origin("key")
"""For names that a template may look up or compare: control tokens in them are broken, but nothing marks them."""


def _description(tool: Any) -> str:
    examples = [json.dumps(example, ensure_ascii=False) for example in tool.input_examples or ()]
    text = tool.description or ""
    return "\n".join([*([text] if text else []), "Examples of input:", *examples]) if examples else text


def _merge_into_first_user(messages: list[Message]) -> list[Message]:
    """For templates without a system role: its text opens the first user message."""
    system, rest = messages[0]["content"], messages[1:]
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{"role": "user", "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
