"""What a template can be shown, found out by rendering sentinels: nothing is read from its source."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from nbllama.chat.errors import ChatError
from nbllama.chat.renderer import Renderer

USER, LATER, SYSTEM, ANSWER, RESULT, THOUGHT = "ZQuser", "ZQlater", "ZQsystem", "ZQanswer", "ZQresult", "ZQthought"
TOOL, TOOL_2, VALUE = "zq_tool", "zq_other", "ZQvalue"
ARGUMENT = "zq_argument"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`system` says where system messages may stand; calls that the template drops are shown as text instead.

    `text_beside_calls`: a message may have both. `assistant_first`: a conversation may begin with an answer.
    `described_arguments`: each argument must have a description. `images`: a user's content may be a list with images
    in it. `reasoning_parts`: thinking is told as a part of an answer's content. A template that takes no user message
    after a tool result (`text_after_results`) gets its text as the result's end.
    """

    tools: bool = False
    calls: bool = False
    two_calls: bool = False
    results: bool = False
    text_after_results: bool = True
    system: Literal["anywhere", "first", "nowhere"] = "anywhere"
    arguments_as_text: bool = False
    content_beside_calls: str | None = ""
    short_ids: bool = False
    reasoning: bool = False
    text_beside_calls: bool = True
    assistant_first: bool = True
    described_arguments: bool = False
    images: bool = False
    reasoning_parts: bool = False


def probe(renderer: Renderer) -> Capabilities:
    """Some fifteen small renderings. Raises ChatError where not even one user message can be rendered."""
    renderer.render([user_message()])
    can = Capabilities(system=_probe_system(renderer), tools=_probe_tools(renderer))
    can = replace(can, described_arguments=can.tools and _needs_descriptions(renderer))
    can = _probe_calls(renderer, can)
    return replace(
        can,
        reasoning=_shows(renderer, [user_message(), answer_message(THOUGHT)], THOUGHT),
        assistant_first=_probe_assistant_first(renderer),
        images=_probe_images(renderer),
        reasoning_parts=_probe_reasoning_parts(renderer),
    )


def _probe_assistant_first(renderer: Renderer) -> bool:
    """False only where an empty message of the user's before it helps."""
    begun = [answer_message(), user_message()]
    return _shows(renderer, begun, ANSWER, USER) or not _shows(
        renderer, [{"role": "user", "content": ""}, *begun], ANSWER, USER
    )


def thinking_parts(thought: str, text: str) -> list[dict[str, Any]]:
    """An answer's content where a template takes thinking as a part of it."""
    parts = [{"type": "thinking", "thinking": thought}]
    return [*parts, {"type": "text", "text": text}] if text else parts


def _probe_reasoning_parts(renderer: Renderer) -> bool:
    """Only where it is not shown as a field of its message."""
    if _shows(renderer, [user_message(), answer_message(THOUGHT)], THOUGHT):
        return False
    content = thinking_parts(THOUGHT, ANSWER)
    text = _rendered_or_none(renderer, [user_message(), {"role": "assistant", "content": content}]) or ""
    return THOUGHT in text and ANSWER in text and "'type'" not in text and '"type"' not in text


def image_part() -> dict[str, Any]:
    """An image in a user's content, by all the names that templates look for; they write a placeholder for it."""
    return {"type": "image", "image": "", "image_url": {"url": ""}}


def _probe_images(renderer: Renderer) -> bool:
    text = {"type": "text", "text": USER}
    plain, with_image = (
        _rendered_or_none(renderer, [{"role": "user", "content": parts}]) for parts in ([text], [text, image_part()])
    )
    if plain is None or with_image is None or plain == with_image:
        return False
    # Printed as data, or its text left out: the template does not know such lists.
    return USER in with_image and "'type'" not in with_image and '"type"' not in with_image


def _rendered_or_none(renderer: Renderer, messages: list[dict[str, Any]]) -> str | None:
    try:
        return renderer.render(messages)
    except ChatError:
        return None


def user_message() -> dict[str, Any]:
    return {"role": "user", "content": USER}


def answer_message(reasoning: str = "") -> dict[str, Any]:
    message = {"role": "assistant", "content": ANSWER}
    return message | dict.fromkeys(("reasoning_content", "reasoning", "thinking"), reasoning) if reasoning else message


def sentinel_tools() -> list[dict[str, Any]]:
    """Two tools of one string argument, in OpenAI's shape."""
    schema = {"type": "object", "properties": {ARGUMENT: {"type": "string", "description": "d"}}, "required": []}
    return [
        {"type": "function", "function": {"name": name, "description": "d", "parameters": deepcopy(schema)}}
        for name in (TOOL, TOOL_2)
    ]


def call_messages(can: Capabilities, *names: str, results: bool = False) -> list[dict[str, Any]]:
    """A user message, an assistant message that calls `names`, and their results."""
    calls = []
    for number, name in enumerate(names):
        arguments: Any = {ARGUMENT: VALUE}
        calls.append(
            {
                "id": f"zqid0000{number}" if can.short_ids else f"toolu_zqid0000{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments) if can.arguments_as_text else arguments},
            }
        )
    messages = [
        user_message(),
        {"role": "assistant", "content": can.content_beside_calls, "tool_calls": calls},
    ]
    if results:
        for call, name in zip(calls, names, strict=True):
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": name, "content": RESULT})
    return messages


def _shows(renderer: Renderer, messages: list[dict[str, Any]], *sentinels: str, tools: bool = False) -> bool:
    try:
        text = renderer.render(messages, sentinel_tools() if tools else None, thinking=True)
    except ChatError:
        return False
    return all(sentinel in text for sentinel in sentinels)


def _probe_system(renderer: Renderer) -> Literal["anywhere", "first", "nowhere"]:
    system = {"role": "system", "content": SYSTEM}
    if not _shows(renderer, [dict(system), user_message()], SYSTEM, USER):
        return "nowhere"
    later = [user_message(), answer_message(), dict(system), user_message()]
    first = {"role": "system", "content": LATER}
    text = _rendered_or_none(renderer, [first, *later]) or ""
    # Some templates gather them at the front, or let the last one replace the others.
    return "anywhere" if LATER in text and text.find(SYSTEM) > text.find(ANSWER) >= 0 else "first"


def _probe_tools(renderer: Renderer) -> bool:
    """Shown with the tools and not without: some templates print them only in the presence of a system message."""
    return _shows(renderer, [user_message()], TOOL, tools=True)


def _needs_descriptions(renderer: Renderer) -> bool:
    tools = sentinel_tools()
    for tool in tools:
        del tool["function"]["parameters"]["properties"][ARGUMENT]["description"]
    try:
        renderer.render([user_message()], tools)
    except ChatError:
        return True
    return False


def _probe_calls(renderer: Renderer, can: Capabilities) -> Capabilities:
    for content, as_text, short in product(("", None), (False, True), (False, True)):
        shape = replace(can, content_beside_calls=content, arguments_as_text=as_text, short_ids=short)
        if _shows_call(renderer, shape):
            results = _shows(renderer, call_messages(shape, TOOL, results=True), RESULT, tools=True)
            later = {"role": "user", "content": LATER}
            both = call_messages(shape, TOOL)
            both[-1]["content"] = ANSWER
            return replace(
                shape,
                calls=True,
                two_calls=_count(renderer, call_messages(shape, TOOL, TOOL_2), VALUE) >= 2,
                results=results,
                text_beside_calls=_count(renderer, both, VALUE) > 0,
                text_after_results=_shows(
                    renderer, [*call_messages(shape, TOOL, results=True), later], LATER, tools=True
                ),
            )
    return can


def _shows_call(renderer: Renderer, shape: Capabilities) -> bool:
    """The call is there and its arguments are not JSON inside a JSON string, which would fail silently."""
    try:
        text = renderer.render(call_messages(shape, TOOL), sentinel_tools(), generation=False)
        renderer.render(call_messages(shape, TOOL, results=True), sentinel_tools())
    except ChatError:
        return False
    answer = text[text.rfind(USER) :]
    return TOOL in answer and VALUE in answer and f'\\"{ARGUMENT}' not in answer


def _count(renderer: Renderer, messages: list[dict[str, Any]], sentinel: str) -> int:
    try:
        return renderer.render(messages, sentinel_tools(), generation=False).count(sentinel)
    except ChatError:
        return 0
