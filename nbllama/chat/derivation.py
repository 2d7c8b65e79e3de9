"""A template's format: described, derived, or the default where the template knows no tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nbllama.chat.capabilities import Capabilities, sentinel_tools, user_message
from nbllama.chat.deriving.calls import derive_calls
from nbllama.chat.deriving.cutting import tags_of
from nbllama.chat.deriving.described import amended, described
from nbllama.chat.deriving.samples import Samples
from nbllama.chat.deriving.self_test import Check, self_test
from nbllama.chat.deriving.turn import Turn, derive_turn
from nbllama.chat.errors import ChatError
from nbllama.chat.format import JSON_IN_TAGS, Calls, Format
from nbllama.chat.renderer import Renderer

OTHER_CALLS = "the model's tool calls are in a form that is not understood: they arrive as text"
_HTML = ("<s>", "</s>")
NOT_READ_BACK = "what this template renders is not read back for: "


@dataclass(frozen=True, slots=True)
class Derived:
    """`source`: described, derived, default (no tools in the template) or given (by the user)."""

    format: Format
    source: Literal["described", "derived", "default", "given"]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]


def derive(renderer: Renderer, can: Capabilities, *, eos: str = "", given: Format | None = None) -> Derived:
    """Never raises: what is not understood is said in `warnings`."""
    samples = Samples(renderer, can)
    if given is not None:
        return _tested(samples, given, "given", eos)
    description = described(renderer.source)
    if description is not None:
        return _tested(samples, description.format, "described", eos)
    turn = derive_turn(samples)
    calls = _calls(renderer, can, samples, turn, eos)
    format = Format(
        think=turn.think,
        calls=calls,
        content=turn.content,
        header=turn.header,
        swallow=_ends_that_are_no_text((*turn.swallow, *(_stray(calls) if calls else ())), eos),
        tools_end_think=calls is not None and (calls.syntax == "tagged" or bool(calls.id_prefix)),
    )
    if not can.calls:
        return _tested(samples, format, "derived" if can.tools else "default", eos)
    return _believed(samples, amended(format, renderer.source), eos)


def _calls(renderer: Renderer, can: Capabilities, samples: Samples, turn: Turn, eos: str) -> Calls | None:
    if not can.calls:
        return JSON_IN_TAGS if not can.tools or _speaks_of_default_tags(renderer) else None
    ends = dict.fromkeys([eos, *tags_of(turn.header)[:1], *tags_of(turn.ending)])
    if turn.think:
        ends.pop(turn.think.close, None)
    return derive_calls(samples, turn, tuple(end for end in ends if end))


def _ends_that_are_no_text(ends: Sequence[str], eos: str) -> tuple[str, ...]:
    """The model's own end of text never arrives as text: where it is spelled, as HTML's `</s>` is, it is meant."""
    return tuple(end for end in ends if end not in (eos, *_HTML))


def _stray(calls: Calls) -> list[str]:
    """What ends an answer with calls where they stand in no section."""
    return tags_of(calls.section_close) if not calls.section_open else []


def _speaks_of_default_tags(renderer: Renderer) -> bool:
    try:
        return JSON_IN_TAGS.open.strip() in renderer.render([user_message()], sentinel_tools())
    except ChatError:
        return False


def _tested(
    samples: Samples, format: Format, source: Literal["described", "derived", "default", "given"], eos: str
) -> Derived:
    checks = tuple(self_test(samples, format, (eos, *_HTML))) if source != "default" else ()
    failed = [check.name for check in checks if check.passed is False]
    warnings = [OTHER_CALLS] if format.family == "none" else []
    warnings += [NOT_READ_BACK + ", ".join(failed)] if failed else []
    return Derived(format, source, checks, tuple(warnings))


def _believed(samples: Samples, format: Format, eos: str) -> Derived:
    """A format whose calls do not read back would lose text: then they stay text."""
    derived = _tested(samples, format, "derived", eos)
    if any(check.passed is False and check.name in _NEEDED for check in derived.checks):
        failed = [check.name for check in derived.checks if check.passed is False]
        warning = f"{OTHER_CALLS} (not read back: {', '.join(failed)})"
        return Derived(replace(format, calls=None), "derived", derived.checks, (warning,))
    return derived


_NEEDED = ("one call", "two calls")
