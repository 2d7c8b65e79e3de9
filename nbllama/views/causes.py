"""Why a prompt was computed again: each cause that is known, how it is recognised, and what to change.

In the order in which they are asked; the first that says yes has the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nbllama.views.comparison import Comparison, text_of
from nbllama.views.sent import canonical, changed_tools, keys_of, role_of, sent_thoughts, thoughts, tool_name

BILLING = "x-anthropic-billing-header"
_SETTINGS = ("thinking", "tool_choice", "output_config", "output_format", "effort", "betas")
_TIME = re.compile(
    r"\d{4}-\d\d?-\d\d?(?:[T ]\d\d?:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
    r"|\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?"
    r"|(?:\d{1,2} )?\b(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?(?: \d{1,2}\b,?)?(?: \d{4})?"
    r"|\b(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b"
    r"|\b1[5-9]\d{8}(?:\d{3})?\b"
)
# Only from where a word begins: a long line of letters and hyphens would be read again from each of them.
_RANDOM = re.compile(r"(?<![0-9A-Za-z_-])(?=[A-Za-z_-]*[0-9])[0-9A-Za-z_-]{6,}")


@dataclass(frozen=True, slots=True)
class Cause:
    """`name` for tables and tests; what happened; what to change."""

    name: str
    sentence: str
    advice: str


def causes_of(comparison: Comparison) -> list[Cause]:
    """What explains the tokens that were computed again, the engine's part first. Never empty."""
    found = [cause for cause in (_eviction(comparison),) if cause is not None]
    if comparison.shared >= len(comparison.after.prompt_ids) or (comparison.goes_on and not comparison.in_answer):
        return found or [_nothing(comparison)]
    return [*found, next(cause for ask in _KNOWN if (cause := ask(comparison)) is not None)]


def _nothing(comparison: Comparison) -> Cause:
    sentence = "Nothing was lost: the later prompt goes on where the earlier one ended."
    return Cause("none", sentence, "Nothing to change.")


def _eviction(comparison: Comparison) -> Cause | None:
    n = comparison.not_kept
    if n <= max(1, comparison.shared // 10) or _other_model(comparison):
        return None
    reuse = comparison.after.mapping("reuse")
    said = f" The engine says: {reuse['reason']}." if isinstance(reuse.get("reason"), str) and reuse["reason"] else ""
    return Cause(
        "eviction",
        f"{n:,} tokens are the same as before, but they were no longer kept (or had not been finished) when this "
        f"request came.{said.replace('..', '.')}",
        "Ask again sooner, let fewer conversations take turns, or give the worker more memory for prefixes.",
    )


def _other_model(comparison: Comparison) -> Cause | None:
    first, second = comparison.before.model, comparison.after.model
    if not first or not second or first == second:
        return None
    return Cause(
        "other_model",
        f"The earlier request went to the model {first}, this one to {second}: no model can use another's cache.",
        "Stay with one model within a conversation.",
    )


def _billing(comparison: Comparison) -> Cause | None:
    if not any(BILLING in line for line in comparison.lines):
        return None
    return Cause(
        "billing_header",
        "The client writes a billing header that changes with each request into its system prompt.",
        "Set CLAUDE_CODE_ATTRIBUTION_HEADER=0 in Claude Code's environment, or send it through nbllama, which drops "
        "the header when it is the first line.",
    )


def _tools(comparison: Comparison) -> Cause | None:
    first, second = comparison.lists("tools")
    if first == second and [list(keys_of(one)) for one in first] == [list(keys_of(one)) for one in second]:
        return None
    if not comparison.in_head:
        return None
    earlier, later = [canonical(one) for one in first], [canonical(one) for one in second]
    if earlier != later and sorted(earlier) == sorted(later):
        moved = ", ".join(tool_name(one) for one in second[:6])
        return Cause(
            "tool_order",
            f"The same {len(second)} tools came in another order ({moved}, …).",
            "Send the tools in one order, for instance sorted by name; a set or a dict that changes must not decide.",
        )
    if earlier == later:
        return Cause(
            "tool_keys",
            "The tools are the same, but the keys inside their schemas came in another order.",
            "Make the schemas once and send the same objects each time.",
        )
    return Cause("tools_changed", changed_tools(first, second), "Fix the tools before the conversation begins.")


def _hoisted(comparison: Comparison) -> Cause | None:
    if not comparison.in_head or "system" not in comparison.kinds | {_next_kind(comparison)}:
        return None
    moved = _moved_system(comparison)
    first, second = (text_of(request.get("system")).strip() for request in comparison.requests())
    grew = bool(first) and second != first and (second.startswith(first) or second.endswith(first))
    if moved is None and not grew:
        return None
    what = (
        f"The system message that is message {moved} of the conversation stands at the front of the prompt"
        if moved is not None
        else f"The system prompt grew by {len(second) - len(first):,} characters"
    )
    return Cause(
        "hoisted_system",
        f"{what}, so that everything behind it moved.",
        "Leave system messages where they are said, or put what is new into the last user message: a start that stays "
        "the same can be kept.",
    )


def _timestamp(comparison: Comparison) -> Cause | None:
    first, second = comparison.lines
    if first == second:
        return None
    in_template = comparison.kinds == {"template"}
    where = "the chat template's own words" if in_template else comparison.where
    if _TIME.sub("T", first) == _TIME.sub("T", second):
        name = "template_date" if in_template else "timestamp"
        advice = (
            "The template writes today's date; the day's first request pays for it."
            if in_template
            else "Put the time into the last user message, or leave it out: in front it changes all that follows."
        )
        return Cause(name, f"A date or time in {where} changed.", advice)
    if not comparison.in_head or _RANDOM.sub("R", first) != _RANDOM.sub("R", second):
        return None
    return Cause(
        "random_id",
        f"An id or number in {where} changed.",
        "Keep ids of sessions and requests out of the prompt's start.",
    )


def _thinking(comparison: Comparison) -> Cause | None:
    earlier, later = comparison.texts
    dropped = next(
        (text for text in thoughts(comparison) if text[:200] in earlier and text[:200] not in later),
        None,
    )
    if dropped is None or comparison.in_head:
        return None
    still_sent = any(dropped == text for text in sent_thoughts(comparison.requests()[1]))
    who = "the model's template leaves out" if still_sent else "the client did not send back"
    return Cause(
        "thinking_dropped",
        f"The thinking of an earlier turn is gone ({len(dropped):,} characters): {who} what was thought before.",
        "Most models are made that way, and the loss is one turn long."
        if still_sent
        else "Send the thinking blocks back as they came, with their signatures, at least within a tool loop.",
    )


def _settings(comparison: Comparison) -> Cause | None:
    first, second = comparison.requests()
    changed = [name for name in _SETTINGS if first.get(name) != second.get(name)]
    # The template writes what a setting means wherever it likes.
    if not changed or not (comparison.in_head or "template" in comparison.kinds):
        return None
    return Cause(
        "settings",
        f"{', '.join(changed)} changed, and the template writes that into the prompt.",
        "Keep these settings through a conversation.",
    )


def _turn_end(comparison: Comparison) -> Cause | None:
    spans = comparison.before.spans
    end = max((stop for _, stop, origin in spans if origin.kind != "template"), default=None)
    if end is None or not end <= comparison.place < len(comparison.before.text("prompt")):
        return None
    return Cause(
        "turn_end",
        "Only the last words of the earlier prompt differ, where the template ended a turn and opened the model's.",
        "Nothing to change: a turn that goes on, or is over, is written in another way, and the loss is a few tokens.",
    )


def _template(comparison: Comparison) -> Cause | None:
    first, second = comparison.requests()
    same = all(first.get(name) == second.get(name) for name in ("system", "tools"))
    earlier, later = comparison.lists("messages")
    begins_the_same = bool(later) and later[: len(earlier)] == earlier
    if not same or not begins_the_same or "template" not in comparison.kinds or comparison.in_answer:
        return None
    return Cause(
        "other_template",
        "The same conversation was written down in another way: another chat template, or a new version of the model.",
        "Use one template; a file given as `formats` or a newer model file starts afresh once.",
    )


def _history(comparison: Comparison) -> Cause | None:
    earlier, later = comparison.lists("messages")
    if not earlier or not later or comparison.in_head:
        return None
    cut = next((n for n in range(1, len(earlier)) if earlier[n : n + 2] == later[:2]), None)
    if cut is not None:
        return Cause(
            "history_cut",
            f"The first {cut} messages of the conversation were left out.",
            "Cut rarely and then much: each cut costs all that is left.",
        )
    n = next((n for n, (old, new) in enumerate(zip(earlier, later, strict=False)) if old != new), None)
    if n is None:
        return None
    return Cause(
        "edited_history",
        f"Message {n} ({role_of(later[n])}) is another one than before.",
        "Change only the end of a conversation; what is edited is computed again with all that follows.",
    )


def _answer(comparison: Comparison) -> Cause | None:
    if not comparison.in_answer and comparison.kinds.isdisjoint({"answer"}):
        return None
    return Cause(
        "answer_rewritten",
        "The model's answer came back in another form than the model wrote it: trimmed, or a call spaced otherwise.",
        "Send the content blocks back as they came; the loss is at most that answer.",
    )


def _system(comparison: Comparison) -> Cause | None:
    first, second = (text_of(request.get("system")).strip() for request in comparison.requests())
    if not comparison.in_head or ("system" not in comparison.kinds and first == second):
        return None
    return Cause(
        "system_changed",
        "The system prompt is another one.",
        "Keep it the same and put what changes into the last user message.",
    )


def _different(comparison: Comparison) -> Cause:
    return Cause(
        "different",
        f"The prompts differ from token {comparison.shared:,} on, in {comparison.where}.",
        "Compare with the request before this one in the same conversation.",
    )


_KNOWN: tuple[Callable[[Comparison], Cause | None], ...] = (
    _other_model,
    _billing,
    _tools,
    _timestamp,
    _hoisted,
    _thinking,
    _system,
    _settings,
    _turn_end,
    _template,
    _history,
    _answer,
    _different,
)


def _next_kind(comparison: Comparison) -> str:
    """The kind of what comes next where the prompts part inside the template's words: it may have been written anew."""
    spans = comparison.after.spans
    behind = (origin.kind for start, _, origin in spans if start >= comparison.place and origin.kind != "template")
    return next(behind, "")


def _moved_system(comparison: Comparison) -> int | None:
    """The number of a system message that the later prompt has in front of earlier messages; None: there is none."""
    others = [start for start, _, origin in comparison.after.spans if origin.message is not None]
    for start, _, origin in comparison.after.spans:
        if origin.kind == "system" and origin.message and others and start <= min(others):
            return origin.message
    roles = [message.get("role") for message in comparison.lists("messages")[1] if isinstance(message, Mapping)]
    first_system = min((s for s, _, origin in comparison.after.spans if origin.kind == "system"), default=None)
    if "system" in roles[1:] and first_system is not None and first_system <= comparison.place:
        in_place = any(o.kind == "system" and o.message is not None for _, _, o in comparison.after.spans)
        return None if in_place else roles.index("system", 1)
    return None
