"""What stands around an answer and its thinking: header, tags, and how a turn ends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbllama.chat.capabilities import ANSWER, THOUGHT, TOOL
from nbllama.chat.deriving.cutting import TAG, are_pair, common_prefix, common_suffix, outside_tag, tags_of
from nbllama.chat.deriving.samples import FIRST, Samples
from nbllama.chat.format import ContentTags, ThinkTags

# For templates that take thinking out of the history and whose prompts show no tag of it either.
_KNOWN_THINKING = (
    ThinkTags("<think>", "</think>"),
    ThinkTags("[THINK]", "[/THINK]"),
    ThinkTags("<|START_THINKING|>", "<|END_THINKING|>"),
)


_MAX_ENDING = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """`ending` is all that the template writes after an answer's text."""

    header: str = ""
    think: ThinkTags | None = None
    content: ContentTags | None = None
    swallow: tuple[str, ...] = ()
    ending: str = ""


def derive_turn(samples: Samples) -> Turn:
    """From an answer with and without thinking, and the prompts for both."""
    prompt = samples.prompt(thinking=True)
    plain = samples.text() or ""
    before, _, ending = plain.rpartition(ANSWER)
    header = _header(prompt, before)
    header = _shared_with_calls(samples, header)
    # Some templates show thinking before calls only.
    thought = samples.text(thought=True) or samples.calls(FIRST, thought=True)
    think, between = None, ""
    if thought is not None:
        header, think, between = _around_thought(samples, thought, header, before)
    think = think or _from_prompts(samples, header, prompt)
    header = _without_thinking(header, think)
    content = _content(header, think, before, ending)
    opening = think.open if think else ""
    swallow = tuple(tag for tag in _swallowed(content, between, ending) if tag != opening)
    return Turn(header, think, content, swallow, ending)


def _header(prompt: str, before: str) -> str:
    """What a prompt for an answer and an answer in the history both begin with."""
    header = prompt[: outside_tag(before, common_prefix(prompt, before), after=False)]
    shared = common_suffix(prompt, before)
    if shared > len(header) and not prompt.startswith(before):
        # The template puts something between the conversation and the answer.
        end = before[len(before) - shared :]
        header = end[end.find("<") :] if "<" in end else end
    return header


def _shared_with_calls(samples: Samples, header: str) -> str:
    """Thinking that a template opens before texts only is no part of the header."""
    calls = samples.calls(FIRST)
    lead = calls.partition(TOOL)[0] if calls else header
    shared = header[: outside_tag(lead, common_prefix(header, lead), after=False)]
    return shared if tags_of(shared) and tags_of(header[len(shared) :]) else header


def _around_thought(samples: Samples, text: str, header: str, before: str) -> tuple[str, ThinkTags | None, str]:
    """(header, tags, what stands between thinking and answer)."""
    lead, _, rest = text.partition(THOUGHT)
    header = header[: outside_tag(lead, common_prefix(header, lead), after=False)]
    glue = re.split(f"{ANSWER}|{TOOL}", rest)[0]
    closing = TAG.search(glue)
    close = closing.group() if closing else glue.strip()
    between = glue[closing.end() :] if closing and ANSWER in rest else ""
    opener = lead[len(header) :]
    if not tags_of(opener):
        opener = ""
        tag = next(iter(reversed(list(TAG.finditer(lead)))), None)
        if tag is not None and _opens(samples, tag.group(), close, before):
            header, opener = lead[: tag.start()], lead[tag.start() :]
    return header, ThinkTags(opener.strip(), close), between


def _opens(samples: Samples, opener: str, closer: str, before: str) -> bool:
    """Whether a tag that stands before every answer opens thinking: it is seen open and closed at once somewhere."""
    empty = re.compile(re.escape(opener) + r"\s*" + re.escape(closer))
    seen = (before, samples.prompt(thinking=False))
    return are_pair(opener, closer) or any(empty.search(text) for text in seen)


def _from_prompts(samples: Samples, header: str, prompt: str) -> ThinkTags | None:
    """Templates that take thinking out of the history begin it in the prompt, or close it there."""
    on, off = _begun(prompt, header), _begun(samples.prompt(thinking=False), header)
    if len(on) == 1 and len(off) == 2 and off[0] == on[0]:
        return ThinkTags(*off)
    if len(off) == 2 and not on:
        return ThinkTags(*off)
    for opener in on[-1:]:
        closer = opener[0] + "/" + opener[1:]
        if closer in samples.source:
            return ThinkTags(opener, closer)
    for closer in off[-1:]:
        if closer[1:2] == "/":
            return ThinkTags(closer[0] + closer[2:], closer)
    return next((tags for tags in _KNOWN_THINKING if tags.close in samples.source), None)


def _begun(prompt: str, header: str) -> list[str]:
    """The tags of the answer that a prompt holds already."""
    return tags_of(prompt[len(header) :]) if header and prompt.startswith(header) else []


def _without_thinking(header: str, think: ThinkTags | None) -> str:
    if think is None:
        return header
    for tag in (think.open, think.close):
        start = header.find(tag) if tag else -1
        if start > 0 and header[:start].strip():
            header = header[:start]
    return header


def _content(header: str, think: ThinkTags | None, before: str, ending: str) -> ContentTags | None:
    wrapper = before[len(header) :] if before.startswith(header) else before
    if think and think.close and think.close in wrapper:
        wrapper = wrapper.rpartition(think.close)[2]
    elif think and think.open and think.open in wrapper:
        wrapper = wrapper.partition(think.open)[0]
    wrapper = wrapper.strip()
    if not wrapper:
        return None
    closer = next(iter(tags_of(ending)), "")
    return ContentTags(wrapper, closer if are_pair(wrapper, closer) else "")


def _swallowed(content: ContentTags | None, between: str, ending: str) -> tuple[str, ...]:
    """Ends of messages; a further header between thinking and text."""
    tags = tags_of(ending) or ([ending.strip()] if _is_mark(ending.strip()) else [])
    found = [tag for tag in tags if content is None or tag != content.close]
    again = between.strip()
    if content is not None and again.endswith(content.open):
        again = again[: len(again) - len(content.open)].strip()
    return tuple(dict.fromkeys([*found, *([again] if tags_of(again) else [])]))


def _is_mark(text: str) -> bool:
    """What no prose would hold."""
    return 0 < len(text) <= _MAX_ENDING and any(char in text for char in "<[|")
