"""What fills a slot: a city, a person, a path, a query …, each as the user says it and as it is passed.

The two differ for currencies alone. A kind is a list of `data/entities.yaml`, a pool of names or words, patterns of
`data/patterns.yaml`, or a mixture: what a model never saw before teaches it to copy.
"""

from __future__ import annotations

import re
import string
import zoneinfo
from collections.abc import Callable
from functools import cache
from typing import Any

from faker import Faker

from demo_model.draws import Draws, lists, load, pool, words

Said = tuple[str, Any]

HOLE = re.compile(r"\{([^{}]+)\}")
RANGE = re.compile(r"(-?[\d.]+)-([\d.]+)(?::(\d))?")
NEW_VALUES = 0.3  # of the draws from a list that is open
OPEN = {"landmark", "dish", "song", "artist", "book", "movie", "event", "subject", "product", "todo", "query", "topic"}
ONSETS = tuple(re.findall(r"\w+", "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh sk st t tr v w x y z"))
VOWELS = tuple(re.findall(r"\w+", "a a e e i i o o u ai ea ee oo ou y"))
CODAS = ("", "", "", "", *re.findall(r"\w+", "b ck d l ll m n nd ng r rk s st t x z"))
FIXED = re.compile(r"\d{4}-\d\d-\d\d|\d\d?:\d\d")  # other digits would make no date or time
SIGNS = {"d": string.digits, "h": "0123456789abcdef", "L": string.ascii_uppercase}
ASCII = str.maketrans("äöüåøéèêçñáíóúšžčřłńśćğıőűæ", "aouaoeeecnaiouszcrlnscgioua")
CURRENCIES = {
    "USD": ["US dollars", "dollars"],
    "EUR": ["euros", "euro"],
    "GBP": ["British pounds", "pounds sterling", "pounds"],
    "JPY": ["yen", "Japanese yen"],
    "CHF": ["Swiss francs", "francs"],
    "CAD": ["Canadian dollars"],
    "AUD": ["Australian dollars"],
    "INR": ["Indian rupees", "rupees"],
    "SEK": ["Swedish kronor"],
    "NOK": ["Norwegian kroner"],
    "DKK": ["Danish kroner"],
    "PLN": ["Polish zloty", "zloty"],
    "CZK": ["Czech koruna", "Czech crowns"],
    "BRL": ["Brazilian reais"],
    "MXN": ["Mexican pesos"],
    "CNY": ["Chinese yuan", "yuan"],
    "KRW": ["Korean won", "won"],
    "TRY": ["Turkish lira"],
    "ZAR": ["South African rand", "rand"],
    "NZD": ["New Zealand dollars"],
    "SGD": ["Singapore dollars"],
    "THB": ["Thai baht", "baht"],
    "HUF": ["Hungarian forints", "forints"],
    "ILS": ["shekels"],
}


def kind(d: Draws, name: str) -> Said:
    """A value of a kind, as said and as passed. Raises KeyError for a kind that there is not."""
    if name in PAIRS:
        return PAIRS[name](d)
    text = d.fresh(lambda: draw(d, name))
    return text, text


def draw(d: Draws, name: str) -> str:
    """A value of a kind, of whichever split."""
    if name == "coined":
        return coined(d)
    if name in OPEN and d.often(NEW_VALUES):
        return reworded(str(d.one(lists()[name])), d)
    if name in SOURCES:
        return str(d.one(SOURCES[name]()))
    made = _patterns().get(name)
    if made is None:
        return str(d.one(lists()[name]))
    share, patterns = made
    return str(d.one(lists()[name])) if d.often(share) else HOLE.sub(lambda hole: _fill(d, hole[1]), d.one(patterns))


def _fill(d: Draws, hole: str) -> str:
    if hole[0] in SIGNS and hole[1:].isdigit():
        return "".join(d.one(SIGNS[hole[0]]) for _ in range(int(hole[1:])))
    if number := RANGE.fullmatch(hole):
        low, high, digits = number.groups()
        return (
            f"{d.random.uniform(float(low), float(high)):.{digits}f}"
            if digits
            else str(d.random.randint(int(low), int(high)))
        )
    if hole.startswith("plain "):
        return plain(draw(d, hole.removeprefix("plain ")))
    text = draw(d, hole[0].lower() + hole[1:])
    return text[:1].upper() + text[1:] if hole[0].isupper() else text


def coined(d: Draws) -> str:
    """A word that there is not: it can only be copied."""
    return "".join(d.one(ONSETS) + d.one(VOWELS) + d.one(CODAS) for _ in range(d.one([1, 2, 2, 2, 3])))


def reworded(text: str, d: Draws) -> str:
    """A value like this one that no list has: other digits, or another word in one place."""
    if FIXED.search(text):
        return text
    if sum(c.isdigit() for c in text) > 2:
        return re.sub(r"\d", lambda match: d.one("123456789"), text)
    parts = re.split(r"([A-Za-z]{4,})", text)
    places = range(1, len(parts), 2)
    if not places:
        return text
    place = d.one(places)
    new = coined(d) if d.often(0.4) else str(d.one(words(d.one(["noun", "noun", "adjective"]))))
    old = parts[place]
    parts[place] = new.upper() if old.isupper() else new.capitalize() if old[0].isupper() else new
    return "".join(parts)


def plain(text: str) -> str:
    """ASCII letters and digits in lower case, for addresses."""
    return "".join(c for c in text.lower().translate(ASCII) if c.isascii() and c.isalnum()) or "info"


def _amount(d: Draws) -> Said:
    r = d.random
    whole = [r.randint(2, 99), r.randint(100, 9999), r.randint(1, 20) * 50]
    value: float = r.choice([*whole, round(r.uniform(1, 99), 1), round(r.uniform(1, 999), 2)])
    return str(value), value


def _currency(d: Draws) -> Said:
    code = d.one(CURRENCIES)
    return (code if d.often(0.5) else d.one(CURRENCIES[code])), code


def _year(d: Draws) -> Said:
    value = d.random.randint(1850, 2030)
    return str(value), value


@cache
def _patterns() -> dict[str, tuple[float, list[str]]]:
    """For each kind how often its list is drawn from, and the patterns."""
    given = load("patterns.yaml")
    return {
        name: (one["share"], one["patterns"]) if isinstance(one, dict) else (0.0, one) for name, one in given.items()
    }


@cache
def _world_cities() -> list[str]:
    """The cities that time zones are named after."""
    names = {zone.split("/")[-1].replace("_", " ") for zone in zoneinfo.available_timezones() if "/" in zone}
    return sorted(name for name in names if name.isascii() and not any(c in name for c in "+-0123456789"))


@cache
def _english(name: str) -> list[str]:
    fake = Faker(["en_US", "en_GB", "en_AU"])
    fake.seed_instance(7)
    return sorted({str(getattr(fake, name)()).replace("\n", ", ") for _ in range(2000)})


PAIRS: dict[str, Callable[[Draws], Said]] = {"amount": _amount, "currency": _currency, "year": _year}
SOURCES: dict[str, Callable[[], list[str]]] = {
    "first_name": lambda: pool("first_name"),
    "last_name": lambda: pool("last_name"),
    "pool_city": lambda: pool("city"),
    "world_city": _world_cities,
    "country": lambda: _english("country"),
    "address": lambda: _english("street_address"),
    "noun": lambda: words("noun"),
    "adjective": lambda: words("adjective"),
    "verb": lambda: words("verb"),
}
