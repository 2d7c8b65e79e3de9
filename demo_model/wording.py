"""The words around a request: how turns are written, greetings, refusals, failures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from demo_model.draws import Draws
from demo_model.kinds import kind
from demo_model.requests import Request
from demo_model.tools import Offer

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant with access to tools.",
    "Be brief.",
    "Answer shortly and politely.",
    "You are an assistant in a notebook.",
    "Use the tools where they help.",
    "You help with everyday tasks.",
    "You are a careful assistant. Never make things up.",
    "You are the assistant of a small company.",
    "Today is {date}.",
    "The user is called {name}.",
    "You are a friendly assistant. The user lives in {city}.",
)
OPENINGS = (
    "Hi, {l}",
    "Hello! {u}",
    "Hey, {l}",
    "Quick question: {l}",
    "Please: {l}",
    "Now {l}",
    "OK, {l}",
    "So, {l}",
    "One thing: {l}",
)
CLOSINGS = ("{u} Thanks!", "{u} Thank you.", "{u} please", "{u} Thanks in advance.", "{u} I'm in a hurry.")
AND_THEN = ("And {l}", "Also, {l}", "Now {l}", "Then {l}", "Thanks! {u}", "Great. {u}", "{u}", "{u}", "Next: {l}")
TWO = (
    "{u} And {m}",
    "{u} Also, {m}",
    "{a} and {m}",
    "{u} {v}",
    "Two things: {l} And {m}",
    "{a}, then {m}",
    "{a}; {m}",
    "First {l} Then {m}",
)
REFUSALS = (
    "I can't {wants} with the tools that I have.",
    "None of my tools can {wants}.",
    "Sorry, I have no tool to {wants}.",
    "I don't have a tool to {wants}. I can use {names}.",
    "With {names} I can't {wants}.",
)
UNFIT = (
    "I have {names}; that does not fit.",
    "None of the tools ({names}) can do that.",
    "No tool here does that, only {names}.",
)
# What the assistant thinks, before a call, after its result, and where there is none.
CHOOSING = (
    "{tool} does that",
    "I call {tool}",
    "{tool} is the right tool",
    "For that there is {tool}",
)
TELLING = ("I tell the user.", "I say so.", "I put it into words.", "Now I can answer.")
NO_TOOL_NEEDED = (
    "No tool is needed here. I answer by myself.",
    "I can answer this without a tool.",
    "This needs none of the tools.",
)
CHATTING = (
    "The user says: {asks}. I answer shortly.",
    "I know this and can answer directly.",
    "The question is: {asks}",
)
PROBLEMS = (
    ('{"error": "timeout"}', "the request timed out"),
    ('{"error": "service unavailable"}', "the service is unavailable"),
    ("Error: not found", "nothing was found"),
    ("Error: permission denied", "permission was denied"),
    ("Error: connection refused", "the connection was refused"),
    ('{"status": "error", "message": "rate limit exceeded"}', "the rate limit was exceeded"),
    ("Error: invalid input", "the input was not valid"),
    ('{"success": false, "reason": "account locked"}', "the account is locked"),
    ("Error: internal server error", "there was an internal server error"),
    ("Error: no connection to the server", "there is no connection to the server"),
    ('{"error": "unauthorized"}', "I am not authorised"),
    ("Error: the service is down for maintenance", "the service is down for maintenance"),
    ("Error: disk full", "the disk is full"),
    ('{"ok": false, "error": "not supported"}', "that is not supported"),
)
FAILED = (
    "I could not {wants}: {why}.",
    "That failed: {why}.",
    "Sorry, it did not work: {why}.",
    "The tool reported an error: {why}. So I could not {wants}.",
)


def system_turn(system: str, offers: list[Offer]) -> str:
    """The turn that presents the tools, empty without a system prompt and tools."""
    if not offers:
        return f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    lines = "".join("\n" + json.dumps(one.shown(), ensure_ascii=False) for one in offers)
    gap = "\n\n" if system else ""
    return f"<|im_start|>system\n{system}{gap}<tools>{lines}\n</tools><|im_end|>\n"


def schema_turn(system: str, schema: dict[str, Any]) -> str:
    """The turn that says what the answer is to be, as `nbllama.chat.text_tools` words it."""
    gap = "\n\n" if system else ""
    told = f"Answer with JSON that fits this schema:\n{json.dumps(schema, ensure_ascii=False)}"
    return f"<|im_start|>system\n{system}{gap}{told}<|im_end|>\n"


def call(one: Request) -> str:
    arguments = json.dumps(one.arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{one.offer.name}", "arguments": {arguments}}}\n</tool_call>'


def system_prompt(d: Draws, share: float) -> str:
    """One of `SYSTEMS` in a share of the cases, else none."""
    if not d.often(share):
        return ""
    known = {"date": kind(d, "iso_date")[0], "name": kind(d, "first_name")[0], "city": kind(d, "city")[0]}
    return str(d.one(SYSTEMS)).format(**known)


def dressed(one: Request, d: Draws, *, first: bool) -> str:
    """The request as somebody types it: with a greeting, in lower case at its start, without its full stop."""
    share = d.random.random()
    if not first:
        return _lowered(d.one(AND_THEN), one)
    if share < 0.12:
        return _lowered(d.one(OPENINGS), one)
    if share < 0.2 and one.text[-1:] in ".!?":
        return _lowered(d.one(CLOSINGS), one)
    if share < 0.3:
        return uncapitalised(one)[: len(one.unended)] if one.text.endswith(".") else uncapitalised(one)
    return one.unended if share < 0.36 else one.text


def _lowered(pattern: str, one: Request) -> str:
    return pattern.format(u=one.text, l=uncapitalised(one))


def joined(first: Request, second: Request, d: Draws) -> str:
    """Two requests in one message."""
    text = first.unended
    lower = uncapitalised(first)[: len(text)]
    lower += "" if lower[-1:] in ".?!" else "."
    return str(d.one(TWO)).format(u=first.ended, a=text, l=lower, m=uncapitalised(second), v=second.text)


def uncapitalised(one: Request) -> str:
    """Without its capital, unless that belongs to a name or an abbreviation."""
    text = one.text
    named = any(said and text.startswith(said) for said in one.said.values())
    return text if named or text.startswith(("I ", "I'")) or text[1:2].isupper() else text[:1].lower() + text[1:]


def doable(wants: str) -> str:
    """What one can or cannot do: nobody says that a tool cannot know."""
    return re.sub(r"^know\b", "find out", wants)


def shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else text[:77] + "..."


def listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def respaced(text: str, d: Draws) -> str:
    """The same JSON with other white space."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    styles: list[Callable[[], str]] = [
        lambda: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        lambda: json.dumps(value, ensure_ascii=False, indent=2),
    ]
    return str(d.one(styles)())
