"""Keys, absolute paths and e-mail addresses in texts: found, and covered without moving anything else. Pure.

For pages that leave the machine. A covered text keeps its length, so that offsets into it stay true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

COVER = "•"

# Not `\s` and `\w`: this is searched in the bytes of tokens, too, where half a character may look like a space.
_PART = r"""[^\\/ \t\r\n"'`<>|:;,*?()\[\]{}]"""
# Where a key may begin: not inside a word, but behind a line's end as JSON writes it, whose last sign is a letter. A
# word's letters are ASCII's: Chinese and Japanese put no space before a key.
_START = r"(?:(?<!\w)|(?<=\\[nrt]))"
# In front of a slash that begins no path: "yes/no", "été/hiver".
_WORD = r"\w\u00c0-\u052f"
_NAMES = ("authorization", "api-key", "api_key", "apikey", "access", "token", "password", "passwd", "secret")
# What a text must hold, in small letters, for a pattern to be worth a try: a page has megabytes to go through.
_PATTERNS = [
    (needles, re.compile(pattern, re.ASCII))
    for needles, pattern in (
        (("sk-",), rf"{_START}sk-[\w-]{{8,}}"),
        (("nbllama-",), rf"{_START}nbllama-[\w-]{{16,}}"),
        (("gh", "glpat", "hf_"), rf"{_START}(?:gh[opsu]|github_pat|glpat|hf)[_-]\w{{16,}}"),
        (("akia", "aiza"), rf"{_START}(?:AKIA[0-9A-Z]{{16}}\b|AIza[\w-]{{30,}})"),
        (("xox",), rf"{_START}xox[abprs]-[\w-]{{10,}}"),
        (("eyj",), r"(?:(?<![\w-])|(?<=\\[nrt]))eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]+)?"),
        (
            ("private key",),
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-(?!-)[^-]*)*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?",
        ),
        (("bearer",), rf"{_START}(?i:bearer[ ]+)(?P<secret>[\w.~+/=-]{{8,}})"),
        (
            _NAMES,
            r"(?i:authorization|api[_-]?key|access[_-]?key|token|password|passwd|secret)"
            r"""\\?["']?[ \t]{0,3}[:=][ \t]{0,3}(?i:\\?["']?(?:bearer |token )?)(?P<secret>[^ \t\r\n"',;&\\]{8,})""",
        ),
        (("://",), r"://[^/ \t\r\n:@]{1,60}:(?P<secret>[^/ \t\r\n@]{1,200})@"),
        (("",), rf"{_START}[0-9a-f]{{48}}\b"),
        (("@",), r"(?:(?<![\w.+\\-])|(?<=\\[nrt]))[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
        (("file://",), rf"{_START}file://{_PART}*(?:/{_PART}+)+"),
        (("/",), rf"(?:(?<![{_WORD}/.:<\\])|(?<=\\[nrt]))/(?:{_PART}+/)+{_PART}*"),
        ((":\\",), rf"{_START}[A-Za-z]:(?:\\{{1,2}}{_PART}+)+"),
        (("\\\\",), rf"(?<!\\)\\{{2,4}}{_PART}+(?:\\{{1,2}}{_PART}+)+"),
    )
]
_SHORTEST = 4
_SECRET_NAME = re.compile(r"(?i)authorization|cookie|api[_-]?key|password|passwd|secret|token$")
_TEXTS = ("text", "thinking", "partial_json")


def find(text: str) -> Iterator[tuple[int, int]]:
    """[start, end) of each key, each absolute path and each e-mail address, in order and apart."""
    if len(text) < _SHORTEST:
        return
    lower, found = text.lower(), []
    for needles, pattern in _PATTERNS:
        if any(needle in lower for needle in needles):
            found += [match.span("secret" if pattern.groups else 0) for match in pattern.finditer(text)]
    end = 0
    for start, stop in sorted(found):
        if stop > end:
            yield max(start, end), stop
            end = stop


def covered(text: str) -> str:
    """The text with every secret covered, character by character."""
    parts, done = [], 0
    for start, end in find(text):
        parts += [text[done:start], COVER * (end - start)]
        done = end
    return "".join([*parts, text[done:]])


def covered_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose texts are covered; `masked` tells readers to cover what tokens spell as well."""
    rest = {name: value for name, value in record.items() if name not in ("events", *_NUMBERS)}
    numbers = {name: record[name] for name in _NUMBERS if name in record}
    return {**_deeply(rest), **numbers, "events": _events(record.get("events")), "masked": True}


_NUMBERS = ("pieces", "prompt_ids", "output_ids", "prompt_offsets", "special", "token_times", "probabilities")
"""Fields of which a view takes numbers only, or which it covers token by token."""


def _deeply(value: Any, name: str = "") -> Any:
    if type(value) in (str, int) and len(str(value)) >= 8 and _SECRET_NAME.search(name):
        return COVER * len(str(value))
    if isinstance(value, str):
        return covered(value)
    if isinstance(value, Mapping):
        return {covered(str(key)): _deeply(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_deeply(inner, name) for inner in value]
    return value


def _events(events: Any) -> Any:
    """A key may come in pieces: the deltas of a block are covered as one text."""
    if not isinstance(events, list):
        return events
    copied = _deeply(events)
    blocks: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    originals: dict[tuple[Any, str], list[str]] = {}
    for old, new in zip(events, copied, strict=True):
        for name in _TEXTS:
            text = _delta(old).get(name)
            if isinstance(text, str):
                place = (str(old[1].get("index")), name)
                blocks.setdefault(place, []).append(_delta(new))
                originals.setdefault(place, []).append(text)
    for place, deltas in blocks.items():
        whole, start = covered("".join(originals[place])), 0
        for delta, text in zip(deltas, originals[place], strict=True):
            delta[place[1]] = whole[start : start + len(text)]
            start += len(text)
    return copied


def _delta(event: Any) -> dict[str, Any]:
    data = event[1] if isinstance(event, list | tuple) and len(event) == 2 else None
    delta = data.get("delta") if isinstance(data, dict) else None
    return delta if isinstance(delta, dict) else {}
