"""Puts the steps of a run with tools on the screen, each in an output of its own."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from nbllama.notebook.answer_view import AnswerView
from nbllama.notebook.display import INTERVAL, Output, in_terminal
from nbllama.notebook.tools import view
from nbllama.notebook.tools.run import Step

_TICK = 1.0
"""Seconds between two updates while a tool runs: its time is shown in whole ones."""


class StepScreen(Protocol):
    """One step's place on the screen. May be called from two threads."""

    def show(self, step: Step, *, now: bool = False, last: bool = False) -> None:
        """Something has changed. May be left out if the last time was just now, but not `now`, or as the `last`."""


class NotebookStep:
    """One output, updated in place."""

    def __init__(self) -> None:
        self._output = Output()
        self._lock = threading.Lock()

    def show(self, step: Step, *, now: bool = False, last: bool = False) -> None:
        with self._lock:
            if self._output.due() or now or last:
                self._output.draw(view.bundle([step]))


class TerminalStep:
    """Prints what is new: a terminal cannot rewrite its outputs."""

    def __init__(self) -> None:
        self._n_shown = 0
        self._lock = threading.Lock()

    def show(self, step: Step, *, now: bool = False, last: bool = False) -> None:
        with self._lock:
            # A tool may print, and a question may come, before the next part.
            text = view.plain(step) + ("\n" if step.calls and not last else "")
            print(text[self._n_shown :], end="", flush=True)
            self._n_shown = max(self._n_shown, len(text))
            if last:
                print(f"\n[{step.footer}]\n" if step.footer else "\n", flush=True)


class AnswerScreen:
    """Where the model's part of a step is shown, as `Asking` wants it."""

    shows_written = False

    def __init__(self, step: Step, screen: StepScreen) -> None:
        self._step = step
        self._screen = screen

    def show(self, view: AnswerView) -> None:
        self._screen.show(self._step)

    def finish(self, view: AnswerView, footer: str) -> None:
        self._step.footer = footer
        self._screen.show(self._step)


@contextlib.contextmanager
def kept_up(show: Callable[[], None]) -> Iterator[None]:
    """Inside, something runs that shows nothing itself: another thread shows what was left out, then each second."""
    done = threading.Event()

    def repeat() -> None:
        pause = INTERVAL
        while not done.wait(pause):
            show()
            pause = _TICK

    # The context goes with it: what is shown belongs to this cell.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(repeat,), daemon=True)
    try:
        thread.start()
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def step_screen() -> StepScreen:
    """For where this runs: a notebook, or a terminal and everything else."""
    return TerminalStep() if in_terminal() else NotebookStep()
