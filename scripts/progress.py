"""Steps and long commands, told in few lines: `step k of n`, and below it one line that changes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

LAST_LINES = 25
WIDEST = 200
"""What of a failing command is shown: so many lines, each so wide. The log has the rest."""
QUIET_SECONDS = 15.0
"""How often a line is printed where nothing can be overwritten (a file, CI)."""


class Failed(Exception):
    """A step failed. The text is what the user reads."""


def step(number: int, total: int, title: str) -> None:
    """Said before the step starts, so that a hang has a name."""
    print(f"step {number} of {total}: {title}", flush=True)


class Line:
    """The changing line: overwritten on a terminal, printed now and then elsewhere; with the time that has passed."""

    def __init__(self) -> None:
        self.text = ""
        self.started = self.printed = time.monotonic()
        self.on_terminal = sys.stdout.isatty()

    def show(self) -> None:
        now = time.monotonic()
        passed = int(now - self.started)
        text = f"   {self.text}  {passed // 60}:{passed % 60:02d}"
        if self.on_terminal:
            print(f"\r\x1b[K{text[:100]}", end="", flush=True)
        elif now - self.printed >= QUIET_SECONDS:
            self.printed = now
            print(text, flush=True)

    def clear(self) -> None:
        if self.on_terminal:
            print("\r\x1b[K", end="", flush=True)


def run(
    command: Sequence[str],
    *,
    what: str,
    log: Path | None = None,
    env: dict[str, str] | None = None,
    show: Callable[[str], str | None] = lambda line: None,
) -> None:
    """Runs `command` and keeps its output in `log`. `show` picks the text of the changing line out of an output line.

    Raises Failed with the end of the output if the command fails."""
    line = Line()
    line.text = what
    last: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    ) as process:
        done = threading.Event()
        ticker = threading.Thread(target=_tick, args=(line, done), daemon=True)
        ticker.start()
        try:
            _follow(process, log, last, line, show)
        except BaseException:
            process.terminate()
            raise
        finally:
            done.set()
            ticker.join()
            line.clear()
    if process.returncode != 0:
        where = f"\nThe whole output: {log}" if log else ""
        raise Failed(f"{what} failed:\n" + "\n".join(last) + where)


def _tick(line: Line, done: threading.Event) -> None:
    """A compiler can be silent for a minute; the clock shows that something runs."""
    while not done.wait(1.0):
        line.show()


def _follow(
    process: subprocess.Popen[bytes],
    log: Path | None,
    last: deque[str],
    line: Line,
    show: Callable[[str], str | None],
) -> None:
    with (log or Path(os.devnull)).open("ab", buffering=0) as file:
        for data in process.stdout or ():
            file.write(data)
            text = data.decode(errors="replace")
            progress = show(text)
            if progress:
                line.text = progress
            else:
                last.append(text.rstrip()[:WIDEST])
