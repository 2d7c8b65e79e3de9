"""Tools that look something up, made of `data/lookups.yaml`: a thing, and which of its attributes is wanted, if one is.

"boot space of a Dacia Duster" names neither the tool nor its parameters: it has to be read off what the tools are for,
and an attribute that is said is an argument although it could be left out. Only training has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from demo_model.draws import Draws, load
from demo_model.tools import Family

NAMES = ("{n}_info", "get_{n}", "lookup_{n}", "{n}_details", "find_{n}", "{n}.search", "{n}_data", "query_{s}")
DESCRIPTIONS = (
    "Facts about {a} {t}",
    "Look up {a} {t}.",
    "Information on {p}",
    "Database of {p}; one entry by its name",
    "Everything about {about}",
    "Returns what is known about {a} {t}, or one detail of it.",
)
THING_NAMES = ("name", "query", "{n}", "{n}_name", "item", "id", "which")
ATTRIBUTE_NAMES = ("field", "attribute", "property", "detail", "aspect", "info", "section", "what")
THING_DESCRIPTIONS = ("Name of the {t}", "Which {t}", "The {t} to look up")
ATTRIBUTE_DESCRIPTIONS = ("Only this detail", "Which detail is wanted; all if left out", "What to return")
WHOLE = (
    "Tell me about the {t} <it>.",
    "What do we know about the {t} <it>?",
    "{t} <it>",
    "look up {t} <it>",
    "Give me everything on the {t} <it>",
    "I need some facts about the {t} <it>.",
    "What should I know about the {t} '<it>'?",
    "Show me the {t} <it>, please.",
    "Can you find <it> in your list of {p}?",
    "info {t} <it>",
    "My son has to give a talk on {p}, he chose <it>. What is there to say?",
)
DETAIL = (
    "What's the <what> of <it>?",
    "<what> <it>",
    "<it> <what>?",
    "Tell me the <what> of the {t} <it>.",
    "I'd like to know something about <it>: the <what>.",
    "Could you look up the <what> for <it>?",
    "I forgot the <what> of <it>, what was it again?",
    'We talked about "<it>" and nobody knew the <what>. Can you help?',
    "<it> - I only need the <what>",
    "The <what> of <it>, please.",
    "Hey, do you know the <what> of <it>?",
    "For my table of {p} I still need the <what> of <it>",
)
RESULTS = (
    ('{"name": "<it>", "value": "<r:decimal(1,900)>"}', ["It is <r>.", "For <it> I found <r>."]),
    ("<it>: see <r:url>", ["There is a page about <it>: <r>", "<r> tells you more about <it>."]),
    ('{"error": "no such entry"}', ["There is no entry for <it>.", "I found nothing about <it>."]),
)


@dataclass(frozen=True)
class Lookup(Family):
    """A tool of training alone."""

    ways: frozenset[str] = frozenset()

    @property
    def held_out(self) -> bool:
        return False


def lookup(d: Draws, beside: Iterable[Family] = ()) -> Lookup:
    """A tool for any thing. None of its attributes can be asked of another one `beside` it."""
    taken = {way for family in beside if isinstance(family, Lookup) for way in family.ways}
    entry = d.one([one for one in load("lookups.yaml") if not taken & _ways(one)])
    words = _words(entry)
    asks = d.often(0.75)
    details = d.random.sample(DETAIL, 6) if asks else []
    return Lookup(
        f"lookup {entry['thing']}",
        "lookups",
        str(entry["thing"]),
        [text.format(**words) for text in NAMES],
        [text.format(**words) for text in DESCRIPTIONS],
        _parameters(entry, words, asks),
        f"know something about the {entry['thing']} <it>",
        [(text.format(**words), {}) for text in [*d.random.sample(WHOLE, 5), *details]],
        [{"say": f"Look up {words['a']} {words['t']} for me", "ask": f"Which {words['t']}?"}],
        [{"result": result, "answers": answers} for result, answers in RESULTS],
        _ways(entry),
    )


def _ways(entry: dict[str, Any]) -> frozenset[str]:
    """How its attributes are said, and its own name."""
    return frozenset([str(entry["thing"]), *(way for ways in entry["ask"].values() for way in ways)])


def _words(entry: dict[str, Any]) -> dict[str, str]:
    thing, plural = str(entry["thing"]), str(entry["plural"])
    name = thing.replace(" ", "_")
    return {
        "t": thing,
        "p": plural,
        "a": "an" if thing[0] in "aeio" else "a",
        "n": name,
        "s": plural.replace(" ", "_"),
        "about": str(entry["about"]),
    }


def _parameters(entry: dict[str, Any], words: dict[str, str], asks: bool) -> dict[str, dict[str, Any]]:
    source: dict[str, Any] = {key: entry[key] for key in ("kind", "values") if key in entry}
    it: dict[str, Any] = {
        "names": [name.format(**words) for name in THING_NAMES],
        "required": True,
        "descriptions": [text.format(**words) for text in THING_DESCRIPTIONS],
        **source,
    }
    if not asks:
        return {"it": it}
    return {
        "it": it,
        "what": {"names": list(ATTRIBUTE_NAMES), "enum": entry["ask"], "descriptions": list(ATTRIBUTE_DESCRIPTIONS)},
    }
