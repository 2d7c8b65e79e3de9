"""Exercises in copying: find a value in a text and repeat it.

Copying is what a small model learns last, and all at once; a call is little else. So it comes first here, in the form
of a chat: a system prompt with records, and questions of which each has one of the values as its answer.
"""

from __future__ import annotations

import json

from demo_model.draws import Draws, words
from demo_model.kinds import kind

KINDS = [
    "city",
    "person",
    "first_name",
    "email",
    "phone",
    "order_id",
    "path",
    "time",
    "iso_date",
    "noun",
    "adjective",
    "hostname",
    "version",
    "ip",
    "username",
    "phrase",
]
REPEAT = [
    "Repeat: {}",
    "Say {}",
    'Repeat after me: "{}"',
    "Please repeat this: {}",
    "Write exactly this: {}",
    "echo {}",
]
LINES = [
    ("The {field} of {who} is {value}.", ["What is the {field} of {who}?", "Which {field} has {who}?"]),
    ("{who} has the {field} {value}.", ["What {field} does {who} have?", "{who}: {field}?"]),
    ("{who}: {field} = {value}", ["{field} of {who}", "Tell me the {field} of {who}."]),
    ("- {field} for {who}: {value}", ["Which {field} is there for {who}?", "{field} for {who}?"]),
]

Question = tuple[str, str]
"""What is asked, and its answer, which the text has word for word."""


def records(d: Draws, count: int, questions: int) -> tuple[str, list[Question]]:
    """A text of `count` records of a few fields each, and questions on it."""
    owners = _names(d, count)
    fields = [(d.one(words("noun")), d.one(KINDS)) for _ in range(d.one([1, 2, 3]))]
    fields = list(dict(fields).items())
    known = {who: {field: value(d, name) for field, name in fields} for who in owners}
    pattern, asks = d.one(LINES)
    text = _as_json(known) if d.often(0.35) else _as_lines(known, pattern)
    asked = [_question(d, known, asks) for _ in range(questions)]
    return text, asked


def _names(d: Draws, count: int) -> list[str]:
    kinds = ["first_name", "noun", "city", "person", "order_id"]
    name = d.one(kinds)
    return list(dict.fromkeys(value(d, name) for _ in range(count)))


def value(d: Draws, name: str) -> str:
    return kind(d, name)[0]


def _as_lines(known: dict[str, dict[str, str]], pattern: str) -> str:
    return "\n".join(
        pattern.format(who=who, field=field, value=text) for who, has in known.items() for field, text in has.items()
    )


def _as_json(known: dict[str, dict[str, str]]) -> str:
    return "\n".join(json.dumps({"name": who, **has}) for who, has in known.items())


def _question(d: Draws, known: dict[str, dict[str, str]], asks: list[str]) -> Question:
    who = d.one(known)
    field = d.one(known[who])
    return d.one(asks).format(who=who, field=field), known[who][field]


def repetition(d: Draws) -> Question:
    """Something to say again: words and values in a row."""
    several = " ".join(value(d, d.one(KINDS)) for _ in range(d.one([1, 2, 3, 4, 6, 8])))
    return d.one(REPEAT).format(several), several


def choice(d: Draws) -> Question:
    """One of several values in the question itself."""
    fields = list(dict.fromkeys(d.one(words("noun")) for _ in range(d.one([2, 3, 4]))))
    known = {field: value(d, d.one(KINDS)) for field in fields}
    field = d.one(fields)
    shown = json.dumps(known) if d.often(0.5) else ", ".join(f"{name}: {text}" for name, text in known.items())
    return d.one(["{s}\nWhat is the {f}?", "{s}. Which {f}?", "The {f} in this, please: {s}"]).format(
        s=shown, f=field
    ), known[field]
