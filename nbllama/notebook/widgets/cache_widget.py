"""Why a prompt was computed again: pick a cause, or a part of the prompt, and see its two places side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.panel import Panel, beside, compact, html, put, words
from nbllama.notebook.widgets.side_by_side import side_by_side
from nbllama.views import markup
from nbllama.views.cache import Cache
from nbllama.views.causes import Cause
from nbllama.views.palette import look_of
from nbllama.views.reading import Origin, Reading
from nbllama.views.view import Row, shorten

_MOST_PARTS = 1000
_TOOLS = {"tool_order", "tool_keys", "tools_changed"}
_SETTINGS = {"settings"}
_NOT_SETTINGS = {"messages", "system", "tools", "metadata", "stream"}


def cache(view: Cache) -> CachePanel:
    """Pick a cause, or a part of the later prompt: what stood there before, and what stands there now."""
    return CachePanel(view)


class CachePanel(Panel):
    view: Cache

    def __init__(self, view: Cache) -> None:
        super().__init__(view)
        self._parts = view.rows()
        causes = [(words(f"{n + 1}. {_title(cause)}"), n) for n, cause in enumerate(view.causes)]
        self.causes = ipywidgets.Select(
            options=causes, value=None, rows=max(2, min(len(causes), 6)), description="cause", **compact("auto")
        )
        parts = [(words(_label(part)), n) for n, part in enumerate(self._parts[:_MOST_PARTS])]
        self.parts = ipywidgets.Select(
            options=parts, value=None, rows=min(len(parts) + 1, 8), description="part", **compact("auto")
        )
        self.around = ipywidgets.IntSlider(
            value=200, min=40, max=2000, step=40, description="around it", continuous_update=False, **compact("300px")
        )
        self.said, self.sides = html(), html()
        self.on(self.causes, self._pick_cause)
        self.on(self.parts, self._pick_part)
        self.on(self.around, lambda _: self._pick_cause(self.causes.value))
        rest = len(self._parts) - _MOST_PARTS
        more = html(markup.sentences([f"… {rest:,} more parts left out …"])) if rest > 0 else html()
        if view.causes:
            told = {line for cause in view.causes for line in (cause.sentence, cause.advice)}
            said = [line for line in view.summary() if line not in told]
            self.fill(self.causes, self.said, self.sides, beside(self.around), self.parts, more, told=said)
            self.causes.value = 0
        else:
            self.own(self.causes, self.around)
            self.fill(self.parts, more, self.said, self.sides)

    def _pick_cause(self, chosen: int | None) -> None:
        if chosen is None:
            return
        self.parts.value = None
        cause = self.view.causes[chosen]
        good = cause.name == "none"
        advice = (
            ""
            if good
            else f'<div style="margin:2px 0 6px 16px"><b>What to change:</b> {markup.plain(cause.advice)}</div>'
        )
        put(self.said, markup.notice(cause.sentence, good=good) + advice)
        put(self.sides, self._places(cause))

    def _places(self, cause: Cause) -> str:
        comparison = self.view.comparison
        assert comparison is not None
        if cause.name == "eviction":
            return self._evicted()
        first, second = comparison.texts
        at, around = comparison.place, self.around.value
        start = max(0, at - around)
        where = f"From character {start:,}; the two part at character {at:,}, token {comparison.shared:,}."
        origins = [origin.label if origin else "the end" for origin in comparison.origins]
        heads = (f"before: {origins[0]}", f"now: {origins[1]}")
        parts = [
            side_by_side(first[start : at + around], second[start : at + around], heads),
            markup.sentences([where]),
        ]
        sent = self._sent(cause.name)
        if sent:
            parts.append(markup.caption("As it was sent") + side_by_side(*sent))
        return "".join(parts)

    def _sent(self, name: str) -> tuple[str, str] | None:
        """What the requests said, of a cause that one sees better there than in the prompt."""
        assert self.view.comparison is not None
        before, now = self.view.comparison.requests()
        if name in _TOOLS:
            return _json(before.get("tools")), _json(now.get("tools"))
        if name in _SETTINGS:
            return _json(_settings(before)), _json(_settings(now))
        return None

    def _evicted(self) -> str:
        """The stretch that is the same and was computed again: from where the cache ended to where the prompts part."""
        comparison, after = self.view.comparison, self.view.after
        assert comparison is not None
        first, last = after.cached_tokens, comparison.shared
        offsets = after.offsets
        if offsets is None:
            return markup.sentences([f"Tokens {first:,} to {last:,}; their text is not recorded."])
        start = offsets[first] if first < len(offsets) else len(after.text("prompt"))
        end = offsets[last] if last < len(offsets) else len(after.text("prompt"))
        text = after.text("prompt")[start : min(end, start + 2 * self.around.value)]
        said = f"Tokens {first:,} to {last:,} are the same in both, and were computed a second time."
        return side_by_side(text, text, ("before: computed", "now: computed again")) + markup.sentences([said])

    def _pick_part(self, chosen: int | None) -> None:
        if chosen is None:
            return
        self.causes.value = None
        part = self._parts[chosen]
        origin = Origin(part["origin"], part["message"], part["block"])
        put(self.said, markup.caption(_label(part)) + markup.chip(origin.label, look_of(origin.kind)))
        now = _text_of(self.view.after, origin, self._nth(chosen))
        comparison = self.view.comparison
        if comparison is None:
            put(self.sides, markup.block(now or "not recorded"))
            return
        before = _text_of(comparison.before, origin, self._nth(chosen))
        put(self.sides, side_by_side(before, now))

    def _nth(self, chosen: int) -> int:
        """The how-manieth of its origin a part is: the template's words come again and again."""
        same = ("origin", "message", "block")
        part = self._parts[chosen]
        return sum(all(other[key] == part[key] for key in same) for other in self._parts[:chosen])


def _title(cause: Cause) -> str:
    return f"{cause.name.replace('_', ' ')}: {shorten(cause.sentence, 160)}"


def _label(part: Row) -> str:
    origin = Origin(part["origin"], part["message"], part["block"])
    kept = "all kept" if not part["computed"] else "all computed" if not part["cached"] else f"{part['cached']:,} kept"
    return f"{part['part']:>3}  {origin.label} — {part['tokens']:,} tokens from {part['start']:,}, {kept}{_same(part)}"


def _same(part: Row) -> str:
    if part["same"] is None:
        return ""
    if part["same"] == part["tokens"]:
        return ", same as before"
    return ", behind the first difference" if not part["same"] else f", {part['same']:,} same as before"


def _text_of(reading: Reading, origin: Origin, nth: int) -> str:
    """The text of a part of this origin; empty where there is none."""
    prompt = reading.text("prompt")
    spans = [prompt[start:end] for start, end, other in reading.spans if other == origin]
    return spans[nth] if nth < len(spans) else ""


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in _NOT_SETTINGS}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
