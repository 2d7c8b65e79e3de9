"""What slots of the training data are filled with: names, texts, code, numbers, drawn at random.

Every draw comes from a list (`data/entities.yaml`), a pool made once with Faker or wonderwords from a fixed seed, or a
small generator. One value in ten is held out by its hash and is only drawn where `held_out` is set, so that an
evaluation on generated dialogues meets values that training never had. What the hand-written evaluation mentions is
never drawn at all.

A draw gives two things: what the user says and what is passed; they differ for currencies and the like.
"""

from __future__ import annotations

import random
import string
import zlib
import zoneinfo
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from faker import Faker
from wonderwords import RandomWord

DATA = Path(__file__).parent / "data"
EVALUATION = Path(__file__).parent / "evaluation"

LOCALES = (
    "en_US en_GB en_AU en_IN en_IE de_DE fr_FR es_ES es_MX it_IT nl_NL pt_BR pl_PL sv_SE no_NO da_DK fi_FI cs_CZ hu_HU "
    "tr_TR ro_RO hr_HR"
).split()
POOL = 300  # of each locale
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
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

Random = random.Random
Said = tuple[str, Any]


@dataclass(frozen=True)
class Draws:
    """Draws values for one split: training, or what was held out."""

    random: Random
    held_out: bool = False

    def kind(self, name: str) -> Said:
        """A value of a kind, as said and as passed. Raises KeyError for a kind that there is not."""
        if name in PAIRS:
            return PAIRS[name](self)
        generate = GENERATORS.get(name)
        if generate is None and name not in lists():
            raise KeyError(name)
        text = self.fresh(lambda: generate(self) if generate else self.random.choice(lists()[name]))
        return text, text

    def fresh(self, draw: Callable[[], str]) -> str:
        """A draw of this split. Where a list has none after many tries, the last one."""
        text = ""
        for _ in range(60):
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
    return {name: [str(value) for value in values] for name, values in _load("entities.yaml").items()}


@cache
def avoided() -> frozenset[str]:
    """Names, texts and codes that the hand-written evaluation passes to tools, in lower case."""
    found: set[str] = set()
    for file in sorted(EVALUATION.glob("*.yaml")):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
            for key in ("accepted", "call"):
                _strings(entry.get(key), found)
    return frozenset(text for text in found if len(text) > 3 and text not in COMMON)


def _strings(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value.casefold())
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name != "name":
                _strings(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _strings(inner, found)


COMMON = frozenset(
    [text.casefold() for text in WEEKDAYS + MONTHS]
    + "today tomorrow tonight noon midnight kitchen bedroom bathroom garage office hallway".split()
    + ["living room", *(name.casefold() for names in CURRENCIES.values() for name in names)]
    + "english french german spanish italian japanese chinese portuguese dutch swedish polish".split()
)


def _load(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))


@cache
def pool(name: str) -> list[str]:
    """Real-looking names of many countries, the same in every run."""
    made: list[str] = []
    for number, locale in enumerate(LOCALES):
        fake = Faker(locale)
        fake.seed_instance(1000 + number)
        made += {str(getattr(fake, name)()).replace("\n", ", ") for _ in range(POOL)}
    return sorted(made)


@cache
def words(category: str) -> list[str]:
    source = RandomWord()
    found = source.filter(include_categories=[category], regex="[a-z]{3,11}")
    return sorted(set(found))


def first_name(d: Draws) -> str:
    return str(d.one(pool("first_name")))


def last_name(d: Draws) -> str:
    return str(d.one(pool("last_name")))


def person(d: Draws) -> str:
    return f"{first_name(d)} {last_name(d)}"


def noun(d: Draws) -> str:
    return str(d.one(words("noun")))


def adjective(d: Draws) -> str:
    return str(d.one(words("adjective")))


def verb(d: Draws) -> str:
    return str(d.one(words("verb")))


def _plain(text: str) -> str:
    """ASCII letters and digits in lower case, for addresses."""
    table = str.maketrans("äöüåøéèêçñáíóúšžčřłńśćğıőűæ", "aouaoeeecnaiouszcrlnscgioua")
    return "".join(c for c in text.lower().translate(table) if c.isascii() and c.isalnum()) or "info"


def _from_list(name: str, *others: Callable[[Draws], str], share: float = 0.6) -> Callable[[Draws], str]:
    """Mostly the written list, else one of the generators: copying is learnt from what was not seen before."""

    def draw(d: Draws) -> str:
        if d.often(share) or not others:
            return str(d.one(lists()[name]))
        return str(d.one(others)(d))

    return draw


@cache
def _world_cities() -> list[str]:
    """The cities that time zones are named after."""
    names = {zone.split("/")[-1].replace("_", " ") for zone in zoneinfo.available_timezones() if "/" in zone}
    return sorted(name for name in names if name.isascii() and not any(c in name for c in "+-0123456789"))


def city(d: Draws) -> str:
    return str(d.one(_world_cities() if d.often(0.4) else pool("city")))


def email(d: Draws) -> str:
    a, b = _plain(first_name(d)), _plain(last_name(d))
    local = d.one([a, f"{a}.{b}", f"{a[0]}{b}", f"{a}_{b}", f"{a}{d.random.randint(1, 99)}", f"{noun(d)}", "info"])
    host = d.one(["example.com", "example.org", f"{noun(d)}.com", f"{noun(d)}.org", f"{b}.net", f"mail.{noun(d)}.io"])
    return f"{local}@{host}"


def phone(d: Draws) -> str:
    digits = lambda n: "".join(d.one(string.digits) for _ in range(n))  # noqa: E731
    return str(
        d.one(
            [
                f"+{d.random.randint(1, 99)} {digits(3)} {digits(6)}",
                f"+{d.random.randint(1, 99)}{digits(9)}",
                f"555-{digits(4)}",
                f"0{digits(3)} {digits(6)}",
                f"({digits(3)}) {digits(3)}-{digits(4)}",
            ]
        )
    )


def iso_date(d: Draws) -> str:
    return f"{d.random.choice([2024, 2025, 2026, 2026, 2027, 2028])}-{d.random.randint(1, 12):02d}-{d.random.randint(1, 28):02d}"


def _ordinal(n: int) -> str:
    return f"{n}{'th' if 10 < n < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def day(d: Draws) -> str:
    n, month = d.random.randint(1, 28), d.one(MONTHS)
    return str(
        d.one(
            ["tomorrow", "tomorrow", "today", d.one(WEEKDAYS), d.one(WEEKDAYS), f"next {d.one(WEEKDAYS)}", iso_date(d)]
            + [f"{month} {n}", f"{month} {_ordinal(n)}", f"{n} {month}", iso_date(d), "the day after tomorrow"]
        )
    )


def clock(d: Draws) -> str:
    hour, minute = d.random.randint(0, 23), d.one([0, 15, 30, 45, 0, 30, d.random.randint(0, 59)])
    half = d.one(["am", "pm"])
    twelve = d.random.randint(1, 12)
    return str(
        d.one(
            [f"{hour:02d}:{minute:02d}"] * 3
            + [f"{twelve}:{minute:02d}"] * 2
            + [f"{twelve} {half}", f"{twelve}:{minute:02d} {half}", f"{twelve}{half}", "noon"]
        )
    )


def expression(d: Draws) -> str:
    r = d.random
    a, b, c = r.randint(2, 999), r.randint(2, 99), r.randint(2, 20)
    f = round(r.uniform(0.1, 99), r.choice([1, 2]))
    o, p = r.choice("+-*/"), r.choice("+-*/")
    text = r.choice(
        [f"{a} {o} {b}"] * 4
        + [f"({a} {r.choice('+-')} {b}) {r.choice('*/')} {c}", f"{a} {o} {b} {p} {c}", f"{f} {o} {b}", f"{a} {o} {f}"]
        + [f"{c}**{r.randint(2, 9)}", f"{a} % {c}", f"sqrt({a})", f"{a} {o} ({b} {p} {c})", f"{f} * {f}", f"-{b} + {a}"]
    )
    return text.replace(" ", "") if d.often(0.35) else text


def sql(d: Draws) -> str:
    r = d.random
    table, column, other = (d.one(lists()[name]) for name in ("table", "column", "column"))
    n, value = r.randint(1, 500), d.one([noun(d), first_name(d), city(d)])
    return str(
        d.one(
            [f"SELECT * FROM {table}", f"SELECT {column} FROM {table} LIMIT {n}", f"select count(*) from {table}"]
            + [f"SELECT {column}, {other} FROM {table} WHERE {other} = '{value}'"]
            + [f"SELECT AVG({column}) FROM {table} GROUP BY {other}", f"DELETE FROM {table} WHERE {column} < {n}"]
            + [f"SELECT {column} FROM {table} WHERE {other} > {n} ORDER BY {column} DESC"]
            + [f"UPDATE {table} SET {column} = {n} WHERE {other} = '{value}'"]
            + [f"SELECT DISTINCT {column} FROM {table}", f"select max({column}) from {table} where {other} != {n}"]
        )
    )


def filename(d: Draws) -> str:
    stem = d.one([noun(d), f"{adjective(d)}_{noun(d)}", f"{noun(d)}-{d.random.randint(1, 99)}", f"{noun(d)}{iso_date(d)}"])
    return f"{stem}.{d.one('txt csv md py json yaml log toml html ini sh js pdf xlsx docx png jpg sql ts'.split())}"


def directory(d: Draws) -> str:
    return str(
        d.one(
            [noun(d), f"{noun(d)}/{noun(d)}", f"/home/{_plain(first_name(d))}", f"~/{noun(d)}", f"/var/{noun(d)}"]
            + [f"./{noun(d)}", f"/srv/{noun(d)}/{noun(d)}", f"/tmp/{noun(d)}", f"~/{noun(d).title()}"]
        )
    )


def path(d: Draws) -> str:
    return filename(d) if d.often(0.4) else f"{directory(d)}/{filename(d)}"


def _code(d: Draws) -> str:
    letters = "".join(d.one(string.ascii_uppercase) for _ in range(d.random.randint(1, 4)))
    digits = "".join(d.one(string.digits) for _ in range(d.random.randint(3, 6)))
    return str(d.one([f"{letters}-{digits}", f"{letters}{digits}", f"#{digits}", f"{letters}-{digits}-{d.one(letters)}"]))


def query(d: Draws) -> str:
    a, n, m = adjective(d), noun(d), noun(d)
    return str(
        d.one(
            [f"{a} {n}s", f"how to {verb(d)} a {n}", f"best {n} for a {m}", f"{n} vs {m}", f"{a} {n} near {city(d)}"]
            + [f"who invented the {n}", f"history of the {n}", f"cheap {n}s in {city(d)}", f"{n} {m} price"]
            + [f"{person(d)} {n}", f"{n} {d.random.randint(1990, 2027)}"]
        )
    )


def sentence(d: Draws) -> str:
    a, n, m, v = adjective(d), noun(d), noun(d), verb(d)
    return str(
        d.one(
            [f"the {n} is {a}", f"my {n} needs a new {m}", f"{first_name(d)} likes the {a} {n}", f"we should {v} the {n}"]
            + [f"the {a} {n} is behind the {m}", f"please {v} the {n} before {d.one(WEEKDAYS)}", f"there is a {n} in the {m}"]
            + [f"I saw {first_name(d)} with a {n}", f"no {n} without a {m}", f"the {n} costs {d.random.randint(2, 900)} euros"]
        )
    )


def todo(d: Draws) -> str:
    return str(
        d.one(
            [f"buy {noun(d)}s", f"{verb(d)} the {noun(d)}", f"call {first_name(d)} about the {noun(d)}", f"fix the {noun(d)}"]
            + [f"order a {adjective(d)} {noun(d)}", f"return the {noun(d)} to {first_name(d)}", f"{verb(d)} {noun(d)}s"]
        )
    )


def title(d: Draws) -> str:
    a, n, m = adjective(d), noun(d), noun(d)
    return str(
        d.one(
            [f"{a} {n}".title(), f"The {a.title()} {n.title()}", f"{n.title()} and {m.title()}", f"{n} {m}".capitalize()]
            + [f"{first_name(d)}'s {n}", f"{n.title()} in {city(d)}"]
        )
    )


def branch(d: Draws) -> str:
    return f"{d.one('feature fix bugfix chore release docs'.split())}/{noun(d)}-{d.one([noun(d), d.random.randint(1, 999)])}"


def url(d: Draws) -> str:
    return f"https://{d.one(['www.', '', 'api.', 'docs.'])}{hostname(d)}{d.one(['', '/' + noun(d), f'/{noun(d)}/{noun(d)}?id={d.random.randint(1, 999)}'])}"


def hostname(d: Draws) -> str:
    return f"{noun(d)}{d.one(['-' + noun(d), '', str(d.random.randint(1, 9))])}.{d.one('com org net io dev local eu'.split())}"


def _hex(d: Draws, n: int) -> str:
    return "".join(d.one("0123456789abcdef") for _ in range(n))


def flight_number(d: Draws) -> str:
    return f"{d.one('LH AF BA UA DL KL IB SK LX OS TK EK QF SQ AY TP'.split())}{d.one(['', ' '])}{d.random.randint(12, 9999)}"


def amount(d: Draws) -> Said:
    r = d.random
    value: float = r.choice(
        [r.randint(2, 99), r.randint(100, 9999), round(r.uniform(1, 99), 1), round(r.uniform(1, 999), 2), r.randint(1, 20) * 50]
    )
    return str(value), value


def currency(d: Draws) -> Said:
    code = d.one(CURRENCIES)
    return (code if d.often(0.5) else d.one(CURRENCIES[code])), code


def year(d: Draws) -> Said:
    value = d.random.randint(1850, 2030)
    return str(value), value


def coordinates(d: Draws) -> str:
    return f"{d.random.uniform(-80, 80):.{d.one([2, 4])}f}, {d.random.uniform(-179, 179):.{d.one([2, 4])}f}"


PAIRS: dict[str, Callable[[Draws], Said]] = {"amount": amount, "currency": currency, "year": year}

GENERATORS: dict[str, Callable[[Draws], str]] = {
    "city": city,
    "country": lambda d: str(d.one(_english("country"))),
    "address": lambda d: str(d.one(_english("street_address"))),
    "landmark": _from_list("landmark"),
    "airport": lambda d: d.one("JFK LHR CDG FRA AMS MAD BCN FCO ZRH VIE CPH ARN OSL HEL WAW PRG LIS DUB MUC ATH IST DXB "
                               "DOH SIN HKG NRT ICN SYD MEL AKL YYZ YVR SFO LAX SEA ORD DEN ATL MIA BOS GRU EZE BOG".split()),
    "person": person,
    "first_name": first_name,
    "email": email,
    "phone": phone,
    "username": lambda d: d.one([f"{_plain(first_name(d))}{d.random.randint(1, 99)}", f"{adjective(d)}_{noun(d)}", noun(d)]),
    "company": _from_list("company", lambda d: f"{last_name(d)} {d.one('Ltd GmbH Inc Labs Group & Sons AG'.split(' '))}"),
    "day": day,
    "iso_date": iso_date,
    "time": clock,
    "month": lambda d: str(d.one(MONTHS)),
    "message": _from_list("message", sentence, share=0.5),
    "todo": _from_list("todo", todo, share=0.5),
    "note": _from_list("note", sentence, share=0.5),
    "subject": _from_list("subject", title, share=0.5),
    "event": _from_list("event", title, share=0.5),
    "query": _from_list("query", query, share=0.5),
    "topic": _from_list("topic", lambda d: f"{adjective(d)} {noun(d)}s"),
    "sentence": _from_list("sentence", sentence, share=0.5),
    "word": _from_list("word", noun, adjective, verb, share=0.4),
    "phrase": _from_list("phrase", sentence, share=0.7),
    "language": _from_list("language"),
    "expression": expression,
    "sql": _from_list("sql", sql, share=0.3),
    "shell": _from_list("shell", lambda d: f"{d.one('cat ls rm head wc stat'.split())} {path(d)}",
                        lambda d: f"grep -r {noun(d)} {directory(d)}", share=0.5),
    "python": _from_list("python", lambda d: f"print({expression(d)})", lambda d: f"len('{noun(d)}')",
                         lambda d: f"sum([{d.random.randint(1, 9)}, {d.random.randint(1, 99)}])", share=0.5),
    "path": _from_list("path", path, share=0.4),
    "directory": _from_list("directory", directory, share=0.4),
    "filename": _from_list("filename", filename, share=0.4),
    "url": _from_list("url", url, share=0.3),
    "hostname": _from_list("hostname", hostname, share=0.4),
    "ip": lambda d: ".".join(str(d.random.randint(1, 254)) for _ in range(4)),
    "branch": _from_list("branch", branch, share=0.4),
    "commit": lambda d: _hex(d, d.one([7, 7, 8, 10])),
    "commit_message": _from_list("commit_message", lambda d: f"{d.one(['Fix', 'Add', 'Remove', 'Rename'])} the {noun(d)} {noun(d)}"),
    "version": lambda d: f"{d.one(['', '', 'v'])}{d.random.randint(0, 12)}.{d.random.randint(0, 30)}.{d.random.randint(0, 20)}",
    "order_id": _code,
    "uuid": lambda d: f"{_hex(d, 8)}-{_hex(d, 4)}-4{_hex(d, 3)}-a{_hex(d, 3)}-{_hex(d, 12)}",
    "isbn": lambda d: f"978-{d.random.randint(0, 9)}-{d.random.randint(100, 999)}-{d.random.randint(10000, 99999)}-{d.random.randint(0, 9)}",
    "iban": lambda d: f"{d.one('DE FR ES IT NL GB AT'.split())}{d.random.randint(10, 99)}{d.random.randint(10**13, 10**14 - 1)}",
    "flight_number": flight_number,
    "plate": lambda d: f"{d.one(string.ascii_uppercase)}{d.one(string.ascii_uppercase)}-{d.random.randint(100, 9999)}",
    "postcode": lambda d: d.one([f"{d.random.randint(1000, 99999)}", f"SW{d.random.randint(1, 19)} {d.random.randint(1, 9)}QT"]),
    "coordinates": coordinates,
    "hex_color": lambda d: f"#{_hex(d, 6)}",
    "ticker": lambda d: "".join(d.one(string.ascii_uppercase) for _ in range(d.one([3, 4, 4]))),
    "song": _from_list("song", title, share=0.7),
    "artist": _from_list("artist", person, share=0.7),
    "book": _from_list("book", title, share=0.7),
    "movie": _from_list("movie", title, share=0.7),
    "dish": _from_list("dish"),
    "ingredient": _from_list("ingredient", noun, share=0.95),
    "product": _from_list("product", lambda d: f"{adjective(d)} {noun(d)}", share=0.6),
    "room": _from_list("room"),
    "hashtag": _from_list("hashtag", lambda d: f"#{noun(d)}", share=0.5),
    "table": _from_list("table", lambda d: f"{noun(d)}s", share=0.5),
    "column": _from_list("column", lambda d: f"{noun(d)}_{d.one(['id', 'name', 'count'])}", share=0.5),
    "regex": _from_list("regex"),
}


@cache
def _english(name: str) -> list[str]:
    fake = Faker(["en_US", "en_GB", "en_AU"])
    fake.seed_instance(7)
    return sorted({str(getattr(fake, name)()).replace("\n", ", ") for _ in range(2000)})
