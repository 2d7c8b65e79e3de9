"""A stream to watch again: scrub its time or play it, and the message grows; findings lead to their event."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from itertools import accumulate
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.event_table import event_table
from nbllama.notebook.widgets.message_so_far import message_html
from nbllama.notebook.widgets.panel import Panel, compact, html, put, words
from nbllama.notebook.widgets.player import Player, readable_speed
from nbllama.views import markup
from nbllama.views.events import Events
from nbllama.views.events_picture import place_of, timeline
from nbllama.views.picture import WIDTH, seconds

_TICKS = 1000
_SPACE = 12
"""Events in the list below, half of them before the one that came last."""
_MOST_FINDINGS = 300
_WITHOUT_TIMES = 0.5
"""Seconds for each event where no times are recorded."""


def events(view: Events) -> EventsPanel:
    """Scrub or play the stream; the message is built up from its events. Pick a finding to see its event."""
    return EventsPanel(view)


class EventsPanel(Panel):
    view: Events

    def __init__(self, view: Events) -> None:
        super().__init__(view)
        self._events = [event for _, event in view.timed]
        self._rows = view.rows()
        self._times = _never_back([time for time, _ in view.timed])
        self.n = 0
        """How many events have come."""
        self._start = min(self._times[0], 0.0) if self._times else 0.0
        self._length = self._times[-1] - self._start if self._times else 0.0
        self._by_time = self._length > 0
        most = _TICKS if self._by_time else len(self._events)
        length = self._length if self._by_time else _WITHOUT_TIMES * len(self._events)
        self.player = Player(self, most, length, self._moved, self._step, speed=readable_speed(length), what="event")
        self.clock, self.message, self.event = html(), html(), html()
        self._ruler = html()
        self.findings = self._findings()
        picture = html(timeline(view.timed))
        # The list is as high with its few rows as with many, so that nothing below jumps while it plays.
        self.event.layout.min_height = "150px"
        told = [line for line in view.summary() if not line.startswith(("Fault:", "Note:"))]
        self.fill(self.findings, picture, self._ruler, self.player.box, self.clock, self.message, self.event, told=told)
        self._show(0)

    def _findings(self) -> Any:
        judged = self.view.findings[:_MOST_FINDINGS]
        if not judged:
            return html(markup.notice(self.view.verdict, good=True))
        options = [(words(f"{'⚠ fault' if one.fault else 'note'}: {one.sentence}"), n) for n, one in enumerate(judged)]
        select = ipywidgets.Select(
            options=options, value=None, rows=min(max(len(options), 2), 6), description="findings", **compact("auto"),
        )  # fmt: skip
        self.on(select, self._find)
        return select

    def _find(self, chosen: int | None) -> None:
        if chosen is None:
            return
        found = self.view.findings[chosen]
        at = len(self._events) if found.event is None else found.event + 1
        self._go_to(at, keep=chosen)

    def _moved(self, tick: int) -> None:
        """The slider: by time where times are known, else by event."""
        self._show(self._come_until(tick))

    def _come_until(self, tick: int) -> int:
        if not self._by_time:
            return tick
        return bisect_right(self._times, self._start + self._length * tick / _TICKS)

    def _step(self, by: int) -> None:
        self._go_to(min(max(self.n + by, 0), len(self._events)))

    def _go_to(self, n: int, keep: int | None = None) -> None:
        """Exactly so many events, also where several came at one time."""
        if self._by_time:
            time = self._times[n - 1] - self._start if n else 0.0
            self.player.go(min(math.ceil(time / self._length * _TICKS), _TICKS))
        else:
            self.player.go(n)
        self._show(n, keep)

    def _show(self, n: int, keep: int | None = None) -> None:
        self.n = n
        if isinstance(self.findings, ipywidgets.Select):
            # Moving on by other means lets go of a finding, so that it can be picked again.
            self.findings.value = keep
        put(self.message, message_html(self._events[:n]))
        put(self.event, self._event())
        put(self.clock, self._clock())
        if self._by_time:
            put(self._ruler, self._pointer())

    def _clock(self) -> str:
        time = f"at {seconds(self._times[self.n - 1])}" if self.n and self._by_time else ""
        return f"<b>{self.n:,} of {len(self._events):,} events have come</b> {time}"

    def _pointer(self) -> str:
        """Where on the picture above this is."""
        now = self._times[self.n - 1] if self.n else self._start
        share = place_of(self.view.timed, now) * 100
        inner = f'<div style="margin-left:{share:.2f}%;width:0"><b style="margin-left:-0.5em">▲</b></div>'
        return f'<div style="max-width:{WIDTH}px;width:100%;overflow:hidden">{inner}</div>'

    def _event(self) -> str:
        if not self.n:
            return ""
        first = max(0, self.n - _SPACE // 2)
        last = min(len(self._rows), first + _SPACE)
        table = event_table(self._rows[first:last], self.n - 1)
        whole = json.dumps(self._events[self.n - 1], ensure_ascii=False, indent=1, default=str)
        return (
            markup.caption("The events around it")
            + table
            + markup.folded(f"Event {self.n - 1} in full", markup.block(whole))
        )


def _never_back(times: list[float | None]) -> list[float]:
    """Times that only grow; empty where none is recorded. An event without one came with the one before it."""
    if not any(time is not None for time in times):
        return []
    return list(accumulate((0.0 if time is None else time for time in times), max))
