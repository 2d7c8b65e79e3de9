"""Tools without end, put together from words: what they do and take can be read off the request.

Hand-written tools are too few to learn from that a schema has to be read. Here names, parameters and values are new in
every draw; a parameter is recognised by its name in the request, or by a preposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from demo_model.draws import Draws, held_out, words
from demo_model.tools import Family

# What a tool does: in its name, then how people ask for it.
VERBS: dict[str, list[str]] = {
    "create": ["create", "make", "set up"],
    "add": ["add", "put in", "enter"],
    "delete": ["delete", "remove", "get rid of"],
    "send": ["send", "dispatch"],
    "open": ["open", "open up"],
    "book": ["book", "reserve"],
    "cancel": ["cancel", "call off"],
    "update": ["update", "change"],
    "order": ["order", "buy"],
    "print": ["print", "print out"],
    "start": ["start", "begin", "launch"],
    "stop": ["stop", "halt", "end"],
    "move": ["move", "shift"],
    "copy": ["copy", "duplicate"],
    "share": ["share"],
    "rename": ["rename"],
    "translate": ["translate"],
    "convert": ["convert", "turn around"],
    "play": ["play"],
    "save": ["save", "store"],
}
# These ask for something, which is in the result.
QUESTIONS: dict[str, list[str]] = {
    "get": ["get", "show me", "give me", "tell me"],
    "find": ["find", "look for", "search for"],
    "check": ["check", "look at"],
    "read": ["read", "read out"],
    "list": ["list", "enumerate"],
    "track": ["track", "follow"],
    "look_up": ["look up"],
    "count": ["count"],
}
COLORS = ["red", "green", "blue", "black", "white", "yellow", "orange", "purple", "grey", "brown", "pink", "silver"]


@dataclass(frozen=True)
class Part:
    """A parameter and the ways to mention it; `<v>` is its value. `set`: what it stands for, where no value is said."""

    spec: dict[str, Any]
    phrases: Sequence[str]
    set: Any = None


SLOTS: dict[str, Part] = {
    "city": Part({"names": ["city", "location", "place", "town"], "kind": "city"}, ["in <v>"]),
    "to": Part({"names": ["to", "recipient", "receiver"], "kind": "first_name"}, ["to <v>"]),
    "sender": Part({"names": ["from", "sender"], "kind": "first_name"}, ["from <v>"]),
    "person": Part({"names": ["person", "name", "user", "customer"], "kind": "person"}, ["for <v>"]),
    "email": Part({"names": ["email", "mail", "address"], "kind": "email"}, ["via <v>", "with the email <v>"]),
    "day": Part({"names": ["date", "day", "when"], "kind": "day"}, ["on <v>"]),
    "time": Part({"names": ["time", "at", "hour"], "kind": "time"}, ["at <v>"]),
    "title": Part({"names": ["title", "label", "heading"], "kind": "subject"}, ['called "<v>"', "titled <v>"]),
    "topic": Part({"names": ["topic", "subject", "about"], "kind": "topic"}, ["about <v>", "on the topic of <v>"]),
    "text": Part({"names": ["text", "message", "body"], "kind": "sentence"}, ['saying "<v>"', 'with the text "<v>"']),
    "count": Part({"names": ["count", "quantity", "number"], "type": "integer", "range": [2, 400]}, ["<v> times"]),
    "id": Part({"names": ["id", "code", "reference"], "kind": "order_id"}, ["with the id <v>", "number <v>"]),
    "number": Part({"names": ["number", "no", "index"], "type": "integer", "range": [1, 9999]}, ["number <v>"]),
    "path": Part({"names": ["path", "file", "filename"], "kind": "path"}, ["in the file <v>", "as <v>"]),
    "url": Part({"names": ["url", "link", "site"], "kind": "url"}, ["from the page <v>", "at the address <v>"]),
    "color": Part({"names": ["color", "colour"], "enum": COLORS}, ["in <v>"]),
    "price": Part(
        {"names": ["price", "cost", "budget"], "type": "number", "range": [0.5, 900.0], "digits": 2}, ["for <v> euros"]
    ),
}
TAGGED = {"think", "tools"}  # in angle brackets they are the template's
# Two of a group would be mistaken for each other.
ALIKE = [{"city", "color"}, {"person", "price"}, {"id", "number"}, {"time", "url"}, {"title", "topic", "text"}]
NAMED = ["with {p} <v>", "with the {p} <v>", "{p} <v>", "and {p} <v>", "with a {p} of <v>", "{p}: <v>", "{p} = <v>"]
ASKS = [
    "{V} {a} {n}{b}.",
    "{V} the {n}{b}.",
    "Please {v} {a} {n}{b}.",
    "Please {v} the {n}{b}",
    "Can you {v} the {n}{b}?",
    "Could you please {v} {a} {n}{b}?",
    "I want to {v} {a} {n}{b}.",
    "I'd like you to {v} the {n}{b}",
    "{v} {n}{b}",
    "{v} {a} {n}{b}, please",
    "{V} my {n}{b}!",
    "It is time to {v} the {n}{b}.",
]
DESCRIPTIONS = [
    "{V} {a} {n}",
    "{V} {a} {n}.",
    "{V} the {n} and return what happened",
    "Use this to {v} {a} {n}",
    "{V} {s}",
]
DONE = [
    ('{"status": "ok"}', ["Done.", "That's done."]),
    ("ok", ["Done.", "That worked."]),
    ("Success", ["Done: the {n} is taken care of.", "Done."]),
    ('{"id": <i:int(100,9999)>}', ["Done. The id is <i>.", "The {n} has the id <i>."]),
    ('{"{n}_id": <i:int(10,9999)>, "status": "<s:adjective>"}', ["Done. The {n} <i> is <s>.", "Its id is <i>."]),
    ("{N} <i:int(10,9999)> is <s:adjective>", ["Done. The {n} <i> is <s>.", "{N} <i> is <s> now."]),
]


@dataclass(frozen=True)
class MadeTool(Family):
    """A tool of words. All tools for a held-out thing are held out."""

    @property
    def held_out(self) -> bool:
        return held_out(f"tools for: {self.family}", 12)


def made_tool(d: Draws, thing: str | None = None) -> MadeTool:
    """A tool for `thing`, else for any that belongs to this split."""
    noun = thing or _thing(d)
    asks = d.often(0.4)
    verb = d.one(QUESTIONS if asks else VERBS)
    parts = _parts(d)
    say = (QUESTIONS if asks else VERBS)[verb]
    names = [f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", f"{verb}_{_plural(noun)}"]
    return MadeTool(
        f"{verb}_{noun}",
        "made",
        noun,
        names,
        [_worded(text, verb.replace("_", " "), noun) for text in DESCRIPTIONS],
        {slot: part.spec for slot, part in parts.items()},
        _worded("{v} {a} {n}", say[0], noun),
        [_request(d, d.one(say), noun, parts) for _ in range(6)],
        [],
        [_found(d, noun) for _ in range(3)] if asks else _done(noun),
    )


@cache
def things(held_out_ones: bool) -> list[str]:
    """What tools can be for, of one split."""
    return [noun for noun in words("noun") if held_out(f"tools for: {noun}", 12) == held_out_ones]


def _thing(d: Draws) -> str:
    return str(d.random.choice(things(d.held_out)))


def _worded(text: str, verb: str, noun: str, bits: str = "") -> str:
    article = "an" if noun[0] in "aeiou" else "a"
    return text.format(v=verb, V=verb.capitalize(), a=article, n=noun, s=_plural(noun), b=bits)


def _plural(noun: str) -> str:
    return noun if noun.endswith(("s", "h", "x", "y", "z")) else f"{noun}s"


def _parts(d: Draws) -> dict[str, Part]:
    """None to four parameters, named by words or from the list above. The first ones are required."""
    chosen: dict[str, Part] = {}
    for number in range(d.one([0, 1, 1, 1, 2, 2, 2, 3, 3, 4])):
        slot = _word_slot(d) if d.often(0.5) else d.one(SLOTS)
        if slot in chosen or any(slot in group and group & chosen.keys() for group in ALIKE):
            continue
        part = SLOTS.get(slot) or _named(d, slot)
        chosen[slot] = replace(part, spec=part.spec | {"required": True}) if number < 2 or d.often(0.4) else part
    return chosen


def _word_slot(d: Draws) -> str:
    while True:
        word = str(d.random.choice(words("noun")))
        if word not in SLOTS and word not in TAGGED and len(word) < 10:
            return word


def _named(d: Draws, name: str) -> Part:
    """A parameter that the request calls by its name."""
    phrases = [d.one(NAMED).format(p=name) for _ in range(3)]
    share = d.random.random()
    if share < 0.25:
        return Part({"names": [name], "type": "integer", "range": [0, d.one([9, 60, 999, 20000])]}, phrases)
    if share < 0.4:
        return Part({"names": [name], "enum": sorted({d.one(words("adjective")) for _ in range(4)})}, phrases)
    if share < 0.5:
        return Part({"names": [name], "type": "array", "kind": "noun"}, phrases)
    if share < 0.6:
        word = d.one(words("adjective"))
        return Part({"names": [word], "type": "boolean"}, [f"and make it {word}", f", {word}"], True)
    kind = d.one(["noun", "adjective", "first_name", "city", "order_id", "phrase", "username", "version", "hostname"])
    return Part({"names": [name], "kind": kind}, phrases)


def _request(d: Draws, verb: str, noun: str, parts: dict[str, Part]) -> tuple[str, dict[str, Any]]:
    """How somebody asks: what is required, and the rest now and then."""
    mentioned = [slot for slot, part in parts.items() if part.spec.get("required") or d.often(0.5)]
    if d.often(0.3):
        d.random.shuffle(mentioned)
    bits = "".join(_bit(d, slot, parts[slot]) for slot in mentioned)
    return _worded(d.one(ASKS), verb, noun, bits), {
        slot: parts[slot].set for slot in mentioned if parts[slot].set is not None
    }


def _bit(d: Draws, slot: str, part: Part) -> str:
    text = str(d.one(part.phrases)).replace("<v>", f"<{slot}>")
    return text if text.startswith(",") else f" {text}"


def _done(noun: str) -> list[dict[str, Any]]:
    def put(text: str) -> str:
        return text.replace("{n}", noun).replace("{N}", noun.capitalize())

    return [{"result": put(result), "answers": [put(answer) for answer in answers]} for result, answers in DONE]


def _found(d: Draws, noun: str) -> dict[str, Any]:
    """A result with one to three fields of any name, and an answer that says them."""
    fields = {}
    for _ in range(d.one([1, 1, 2, 2, 3])):
        fields[_word_slot(d)] = d.one(["int(0,99)", "int(100,9999)", "decimal(0,99)", "noun", "adjective", "city"])
    said = [f"the {name} is <{_slot(name)}>" for name in fields]
    sentence = (", ".join(said[:-1]) + f" and {said[-1]}" if len(said) > 1 else said[0]) + "."
    answers = [sentence[:1].upper() + sentence[1:], f"I looked at the {noun}: {sentence}"]
    shown = {name: f"<{_slot(name)}:{kind}>" for name, kind in fields.items()}
    if d.often(0.35):
        return {"result": ", ".join(f"{name}: {value}" for name, value in shown.items()), "answers": answers}
    inside = ", ".join(f'"{name}": {_json(value)}' for name, value in shown.items())
    return {"result": f"{{{inside}}}", "answers": answers}


def _slot(name: str) -> str:
    return f"{name}_found"


def _json(value: str) -> str:
    return value if ":int(" in value or ":decimal(" in value else f'"{value}"'
