"""Formats that no rendering shows: written down, and recognised by what the template's text contains.

A further one is one entry here. `Amendment`s add to what was derived.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nbllama.chat.format import Calls, Channels, ContentTags, Format, Route, ThinkTags

_THINK = ThinkTags("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Description:
    """Of the templates that contain all of `marks`. `why` says what derivation cannot see."""

    marks: tuple[str, ...]
    why: str
    format: Format


@dataclass(frozen=True, slots=True)
class Amendment:
    """Parts of `Calls`, and the thinking, that a derived format of templates with these marks gets besides."""

    marks: tuple[str, ...]
    why: str
    calls: dict[str, Any] = field(default_factory=dict)
    think: ThinkTags | None = None


DESCRIPTIONS = (
    Description(
        ("<|channel|>", "<|message|>", "functions."),
        "messages are routed by their headers, which models spell in several ways (gpt-oss)",
        Format(
            think=ThinkTags("<|channel|>analysis<|message|>", "<|end|>"),
            calls=None,
            content=ContentTags("<|channel|>final<|message|>"),
            header="<|start|>assistant",
            channels=Channels(
                start="<|start|>assistant",
                header_end="<|message|>",
                ends=("<|end|>", "<|call|>", "<|return|>"),
                openers=("<|channel|>", "to=", "<|message|>"),
                routes=(
                    Route(
                        "to=functions.{name}",
                        "call",
                        written="<|channel|>commentary to=functions.{name} <|constrain|>json",
                    ),
                    Route("to=assistant<|channel|>analysis", "think"),
                    Route("to={name}", "text"),
                    Route("<|channel|>analysis", "think"),
                    Route("", "text"),
                ),
            ),
        ),
    ),
    Description(
        ("<atem:function_calls>", "<|eom|>"),
        "messages are routed by their headers; the recipient is said again inside (Muse)",
        Format(
            think=ThinkTags(" to=self<|message|>", "<|eom|>"),
            calls=Calls(
                "tagged",
                section_open="<atem:function_calls>\n",
                section_close="\n</atem:function_calls>",
                open='<atem:invoke name="',
                close="</atem:invoke>\n",
                name_close='">\n',
                key_open='<atem:parameter name="',
                value_open='">',
                value_close="</atem:parameter>\n",
            ),
            content=ContentTags(" to=user<|message|>"),
            header="<|start|>assistant",
            channels=Channels(
                start="<|start|>assistant",
                header_end="<|message|>",
                ends=("<|eom|>", "<|eot|>"),
                openers=("to=", "<|message|>"),
                routes=(
                    Route("to=self", "think"),
                    Route("to=user", "text"),
                    Route("to={name}", "calls", written=" to={name}"),
                    Route("", "text"),
                ),
            ),
        ),
    ),
    Description(
        (">>>all", "<|eot_id|>"),
        "`>>>` is ordinary text unless the name of a tool and a line break follow (Functionary 3.2)",
        Format(
            think=None,
            calls=None,
            content=ContentTags("all\n"),
            header="<|start_header_id|>assistant<|end_header_id|>\n\n",
            channels=Channels(
                start=">>>",
                header_end="\n",
                ends=("<|eot_id|>",),
                routes=(Route("all", "text"), Route("{name}", "call")),
            ),
        ),
    ),
    Description(
        ("<|open|>", "<|sep|>", "<|end_of_msg|>"),
        "the same three tokens stand in all markers, which sentinels cannot tell apart (Kimi K3)",
        Format(
            think=ThinkTags("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
            calls=Calls(
                "tagged",
                section_open="<|open|>tools<|sep|>",
                section_close="<|close|>tools<|sep|>",
                open='<|open|>call tool="',
                close="<|close|>call<|sep|>",
                name_close='"{any}<|sep|>',
                key_open='<|open|>argument key="',
                value_open='"{any}<|sep|>',
                value_close="<|close|>argument<|sep|>",
            ),
            content=ContentTags("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
            header='<|open|>message role="assistant"<|sep|>',
            swallow=("<|close|>message<|sep|>", "<|end_of_msg|>"),
            tools_end_think=True,
        ),
    ),
    *(
        Description(
            marks,
            "calls are not in the history, or only as the caller wrote them (LFM2)",
            Format(
                think=_THINK,
                calls=Calls("pythonic", section_open="<|tool_call_start|>", section_close="<|tool_call_end|>"),
                header="<|im_start|>assistant\n",
                swallow=("<|im_end|>",),
            ),
        )
        for marks in (("<|tool_list_start|>",), ("List of tools: [",))
    ),
    Description(
        ("<|tool_call>call:", "<|channel>"),
        'strings stand between `<|"|>`, keys are bare, empty thinking may stand anywhere (Gemma 4)',
        Format(
            think=ThinkTags("<|channel>thought", "<channel|>"),
            calls=Calls("literal", open="<|tool_call>call:", close="<tool_call|>", quote='<|"|>'),
            header="<|turn>model\n",
            swallow=("<|channel>thought\n<channel|>", "<channel|>", "<turn|>", "<|tool_response>", "<|channel>"),
        ),
    ),
    Description(
        ("]<]minimax[>[",),
        "arguments are elements named after them, objects and arrays are elements within (MiniMax M3)",
        Format(
            think=ThinkTags("<mm:think>", "</mm:think>"),
            calls=Calls(
                "nested",
                section_open="]<]minimax[>[<tool_call>",
                section_close="]<]minimax[>[</tool_call>",
                open=']<]minimax[>[<invoke name="',
                close="]<]minimax[>[</invoke>",
                name_close='">',
                namespace="]<]minimax[>[",
            ),
            header="]~b]ai\n",
            swallow=("[e~[",),
        ),
    ),
    Description(
        ("<response></response>", "<|tool_call|>"),
        "the history shows neither calls nor thinking (Granite 3.3)",
        Format(
            think=_THINK,
            calls=Calls("json", section_open="<|tool_call|>", array=True),
            content=ContentTags("<response>", "</response>"),
            header="<|start_of_role|>assistant<|end_of_role|>",
            swallow=("<|end_of_text|>",),
        ),
    ),
)

AMENDMENTS = (
    Amendment(
        ("<|start_header_id|>", '"parameters": '),
        "Llama 3 puts this token before calls, which its template writes only for tools of its own",
        {"lead": "<|python_tag|>"},
    ),
    Amendment(
        ("<|tool_calls_section_begin|>",),
        "later models of the family think, with the same template (Kimi K2)",
        think=_THINK,
    ),
)


def described(source: str) -> Description | None:
    """The description of a template, if one fits."""
    return next((one for one in DESCRIPTIONS if all(mark in source for mark in one.marks)), None)


def amended(format: Format, source: str) -> Format:
    """A derived format with what its template does not show."""
    for amendment in AMENDMENTS:
        if all(mark in source for mark in amendment.marks):
            calls = replace(format.calls, **amendment.calls) if format.calls else None
            format = replace(format, calls=calls, think=format.think or amendment.think)
    return format
