"""What a user says to have a tool called, and the call that it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from demo_model.draws import Draws
from demo_model.tools import Offer, Wording
from demo_model.values import distinct, fill, slots_of


@dataclass(frozen=True)
class Request:
    """What a user says, and the call that it asks for."""

    offer: Offer
    text: str
    arguments: dict[str, Any]
    said: dict[str, str] = field(default_factory=dict)
    wording: Wording = ("", {})

    @property
    def unended(self) -> str:
        """The text without its full stop or question mark, unless a value ends with it."""
        if any(said and self.text.endswith(said) for said in self.said.values()):
            return self.text
        return self.text.rstrip(".?!")

    @property
    def ended(self) -> str:
        """The text as a sentence, to be followed by another."""
        return self.text if self.text[-1:] in ".?!" else f"{self.text}."

    @property
    def wants(self) -> str:
        return fill(self.offer.family.wants, self.said)


def request(
    offer: Offer, d: Draws, wordings: list[Wording] | None = None, like: Request | None = None
) -> Request | None:
    """A request for the offered tool, in one of the wordings. None where its schema fits none of them.

    What `like` says and this wording says too stays the same.
    """
    usable = wordings or offer.usable()
    if not usable:
        return None
    say, set = wording = d.one(usable)
    said: dict[str, str] = {}
    passed: dict[str, Any] = dict(set)
    for slot in dict.fromkeys(slots_of(say)):
        if like and offer.slots[slot] in like.arguments and slot not in like.wording[1]:
            said[slot], passed[slot] = like.said[slot], like.arguments[offer.slots[slot]]
        else:
            said[slot], passed[slot] = distinct(offer.family.parameters[slot], d, list(said.values()))
    text = fill(_with_prepositions(say, said, offer), said)
    arguments = {offer.slots[slot]: passed[slot] for slot in offer.family.parameters if slot in passed}
    for slot, value in set.items():
        said.setdefault(slot, str(value).lower() if isinstance(value, bool) else str(value))
    return Request(offer, text, ordered(arguments, offer.schema), said, wording)


def ordered(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """As the grammar writes them: what is required first."""
    required = schema.get("required") or []
    first = [name for name in schema["properties"] if name in required]
    rest = [name for name in schema["properties"] if name not in required]
    return {name: arguments[name] for name in [*first, *rest] if name in arguments}


def said_for(one: Offer, text: str, d: Draws) -> dict[str, str]:
    """Values for the slots of a text, as the user says them."""
    said: dict[str, str] = {}
    for slot in dict.fromkeys(slots_of(text)):
        said[slot], _ = distinct(one.family.parameters[slot], d, list(said.values()))
    return said


def _with_prepositions(say: str, said: dict[str, str], offer: Offer) -> str:
    """\"on\" before a weekday or a date, where the wording has none: \"in Oslo <day>\"."""
    for slot, text in said.items():
        if offer.family.parameters[slot].get("kind") != "day":
            continue
        bare = text.startswith(("to", "next ", "the "))
        if bare:
            say = say.replace(f" on <{slot}>", f" <{slot}>")
        elif (
            re.search(
                rf"\b(on|for|by|from|to|until|till|before|after|since|of|is|at|this|[,:'\"(]) ?['\"]?<{slot}>", say
            )
            is None
        ):
            say = re.sub(rf"(?<=[a-z>]) <{slot}>", f" on <{slot}>", say) if say[:1].isupper() or "?" in say else say
    return say
