"""Random draws, from lists and from pools of names and words, and what is kept apart for an evaluation.

A pool is made once with Faker or wonderwords from a fixed seed. One value in ten is held out by its hash and is only
drawn where `held_out` is set, so that an evaluation on generated dialogues meets values that training never had. What
the hand-written evaluation passes to tools is never drawn at all.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from faker import Faker
from faker.providers.address import it_IT as italian
from wonderwords import RandomWord

DATA = Path(__file__).parent / "data"
EVALUATION = Path(__file__).parent / "evaluation"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 0.2 s instead of 1.7 for all data

# Where people, towns and streets come from.
LOCALES = [
    "en_US",
    "en_GB",
    "en_AU",
    "en_IN",
    "en_IE",
    "de_DE",
    "fr_FR",
    "es_ES",
    "es_MX",
    "it_IT",
    "nl_NL",
    "pt_BR",
    "pl_PL",
    "sv_SE",
    "no_NO",
    "da_DK",
    "fi_FI",
    "cs_CZ",
    "hu_HU",
    "tr_TR",
    "ro_RO",
    "hr_HR",
]
POOL = 300  # of each locale


@dataclass(frozen=True)
class Draws:
    """Draws values for one split: training, or what was held out."""

    random: random.Random
    held_out: bool = False

    def fresh(self, draw: Callable[[], str]) -> str:
        """A draw of this split. Where a list has none after many tries, the last one."""
        text = ""
        for _ in range(200):
            text = draw()
            if text.casefold() not in avoided() and held_out(text) == self.held_out:
                break
        return text

    def one(self, options: Iterable[Any]) -> Any:
        return self.random.choice(list(options))

    def often(self, share: float) -> bool:
        return self.random.random() < share


def held_out(text: str, one_in: int = 10) -> bool:
    """Whether this value belongs to the evaluation. Short ones and numbers are everybody's."""
    return len(text) > 3 and zlib.crc32(text.casefold().encode()) % one_in == 0


@cache
def lists() -> dict[str, list[str]]:
    return {name: [str(value) for value in values] for name, values in load("entities.yaml").items()}


@cache
def avoided() -> frozenset[str]:
    """Names, texts and codes that the hand-written evaluation passes to tools, in lower case."""
    found: set[str] = set()
    for entry in load_all("*.yaml", EVALUATION):
        for key in ("accepted", "call"):
            _strings(entry.get(key), found)
    return frozenset(text for text in found if len(text) > 3 and text not in COMMON)


def _strings(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value.casefold())
    elif isinstance(value, dict):
        # Of a call, what is passed; its name is the tool's.
        for inner in (value.get("input", value)).values():
            _strings(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _strings(inner, found)


# What everybody says; a hand-written prompt that has it takes nothing away.
COMMON = frozenset(
    """
    today tomorrow tonight noon midnight kitchen bedroom bathroom garage office hallway living_room
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december euros dollars pounds yen francs us_dollars english french german spanish
    italian japanese chinese portuguese dutch swedish polish
    """.replace("_", " ").split()
)


@cache
def load(name: str, folder: Path = DATA) -> Any:
    """A file of the data, or of the evaluation."""
    return yaml.load((folder / name).read_text(encoding="utf-8"), LOADER)


def load_all(pattern: str, folder: Path = DATA) -> list[Any]:
    """The entries of all files with such a name."""
    return [entry for file in sorted(folder.glob(pattern)) for entry in load(file.name, folder)]


@cache
def pool(name: str) -> list[str]:
    """Real-looking names of many countries, the same in every run."""
    made: list[str] = []
    for number, locale in enumerate(LOCALES):
        fake = Faker(locale)
        fake.seed_instance(1000 + number)
        if (locale, name) == ("it_IT", "city"):
            # Faker draws these from a set's order, which is another in every process.
            made += random.Random(number).sample(sorted(set(italian.Provider.cities)), POOL)
            continue
        made += {str(getattr(fake, name)()).replace("\n", ", ") for _ in range(POOL)}
    return sorted(made)


@cache
def words(category: str) -> list[str]:
    source = RandomWord()
    found = source.filter(include_categories=[category], regex="[a-z]{3,11}")
    return sorted(set(found))
