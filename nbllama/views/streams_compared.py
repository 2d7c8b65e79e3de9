"""Two streams side by side: what the second says otherwise, wherever its text was cut into deltas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from itertools import groupby
from typing import Any

from nbllama.views import markup
from nbllama.views.events import Events
from nbllama.views.view import Row, View, missing

MOST_PARTS = 3000
"""Parts of each stream that are compared: matching is quadratic at its worst."""
_OWN = ("id", "signature", "usage", "model")
"""What differs between any two requests."""

Key = tuple[str, int | None, str | None]


@dataclass(frozen=True, slots=True)
class Part:
    """An event, or the deltas of one block that follow each other. `time` is the first one's."""

    key: Key
    n: int
    time: float | None
    said: str


class StreamsCompared(View):
    """Columns: `what` is same, changed, only first or only second; of each stream the text, how many events it took,
    and when it began, in seconds. Pings are left out."""

    name = "streams"
    title = "Two streams"
    columns = ("what", "event", "index", "kind", "first", "second", "n_first", "n_second", "t_first", "t_second")

    def __init__(self, first: Events, second: Events) -> None:
        self.views = [first, second]

    @cached_property
    def _pairs(self) -> list[tuple[Part | None, Part | None]]:
        first, second = (list(_parts(view))[:MOST_PARTS] for view in self.views)
        matcher = SequenceMatcher(None, [one.key for one in first], [one.key for one in second], autojunk=False)
        pairs: list[tuple[Part | None, Part | None]] = []
        for tag, a, b, c, d in matcher.get_opcodes():
            if tag == "equal":
                pairs += zip(first[a:b], second[c:d], strict=True)
            else:
                pairs += [(part, None) for part in first[a:b]] + [(None, part) for part in second[c:d]]
        return pairs

    def rows(self) -> list[Row]:
        return [_row(first, second) for first, second in self._pairs]

    @property
    def differences(self) -> list[Row]:
        return [row for row in self.rows() if row["what"] != "same"]

    def summary(self) -> list[str]:
        n_first, n_second = (len(view.rows()) for view in self.views)
        if not n_first or not n_second:
            return [missing(f"events of the {'second' if n_first else 'first'} stream") + "."]
        n = len(self.differences)
        told = f"They differ in {n:,} part{'' if n == 1 else 's'}." if n else "They say the same."
        return [f"{n_first:,} events and {n_second:,} events. {told}"]

    def html(self) -> str:
        same = [one for one in self.rows() if one["what"] == "same"]
        parts = [markup.heading(self.title)]
        parts.append("".join(markup.notice(line, good=not self.differences) for line in self.summary()))
        parts.append(markup.table(self.columns, self.differences))
        if same:
            parts.append(markup.folded("What is the same", markup.table(self.columns, same)))
        return markup.static("".join(parts))


def _parts(view: Events) -> Iterable[Part]:
    rows = [row for row in view.rows() if row["event"] != "ping"]
    for key, group in groupby(rows, key=_key):
        events = list(group)
        together = events if key[0] == "content_block_delta" else None
        for one in [together] if together else [[event] for event in events]:
            yield Part(key, len(one), one[0]["time"], _said(one))


def _key(row: Row) -> Key:
    return row["event"], row["index"], row["kind"]


def _said(rows: Sequence[Row]) -> str:
    if all(row["text"] is not None for row in rows) and rows[0]["kind"] != "signature_delta":
        return "".join(row["text"] for row in rows)
    return json.dumps([_without_own(json.loads(row["payload"])) for row in rows], ensure_ascii=False)


def _without_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_own(inner) for key, inner in value.items() if key not in _OWN}
    return [_without_own(inner) for inner in value] if isinstance(value, list) else value


def _row(first: Part | None, second: Part | None) -> Row:
    what = "only second" if first is None else "only first" if second is None else "changed"
    if first is not None and second is not None and first.said == second.said:
        what = "same"
    event, index, kind = (first or second).key  # type: ignore[union-attr]  # one of them is there
    return {
        "what": what,
        "event": event,
        "index": index,
        "kind": kind,
        "first": first.said if first else None,
        "second": second.said if second else None,
        "n_first": first.n if first else 0,
        "n_second": second.n if second else 0,
        "t_first": first.time if first else None,
        "t_second": second.time if second else None,
    }
