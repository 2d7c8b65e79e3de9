"""A place on a line from 0 to `most`: a slider, a button for one step back and one on, and a player of any speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from nbllama.notebook.widgets.panel import Panel, beside, compact

_TICK = 0.1
"""Seconds between two moves while playing: each is a message to the kernel and its answer."""


class Player:
    """`length` is how many seconds it plays at speed 1. `step` moves by -1 or 1; by default the slider's value."""

    def __init__(
        self,
        panel: Panel,
        most: int,
        length: float,
        on_move: Callable[[int], object],
        step: Callable[[int], object] | None = None,
        *,
        speed: float = 1.0,
        what: str = "step",
    ) -> None:
        self._most, self._length = max(most, 1), length
        wide = ipywidgets.Layout(flex="1 1 240px", width="auto")
        self.slider = ipywidgets.IntSlider(value=0, min=0, max=self._most, readout=False, layout=wide)
        self.play = ipywidgets.Play(min=0, max=self._most, value=0, show_repeat=False)
        self.speed = ipywidgets.BoundedFloatText(
            value=speed, min=0.001, max=1000.0, step=0.5, description="speed", **compact("130px")
        )
        self.back = panel.button("◀ back", f"one {what} back", lambda: (step or self.move)(-1))
        self.on = panel.button("on ▶", f"one {what} on", lambda: (step or self.move)(1))
        # Linked in the kernel, not in the browser: what is shown is made here anyway.
        panel.on(self.play, self._played)
        panel.on(self.slider, self._slid)
        panel.on(self.slider, on_move)
        panel.on(self.speed, self._pace)
        self._pace(speed)
        self.box = beside(self.play, self.back, self.on, self.slider, self.speed)

    @property
    def place(self) -> int:
        return int(self.slider.value)

    def go(self, place: int) -> None:
        self.slider.value = min(max(place, 0), self._most)

    def move(self, by: int) -> None:
        self.go(self.place + by)

    def _played(self, place: int) -> None:
        self.slider.value = min(place, self._most)

    def _slid(self, place: int) -> None:
        # Only at its own end does the player begin anew when it is started again.
        self.play.value = self.play.max if place == self._most else place

    def _pace(self, speed: float) -> None:
        each = max(self._length / self._most / speed, 1e-6)
        steps = max(1, round(_TICK / each))
        with self.play.hold_sync():
            self.play.step = min(steps, self._most)
            # The browser makes no step that would lead behind the end: a longer one would never reach it.
            self.play.max = self._most + self.play.step - 1
            self.play.interval = max(round(each * steps * 1000), 1) if steps == 1 else round(_TICK * 1000)


def readable_speed(length: float) -> Any:
    """At which something takes at least a few seconds to watch, and no more than half a minute."""
    if 2 <= length <= 30 or length <= 0:
        return 1.0
    return float(f"{length / (5 if length < 2 else 30):.1g}")
