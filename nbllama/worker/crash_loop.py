"""Workers that crash again and again are not started for ever: three crashes in a row, and a pause.

A worker that somebody killed did not crash, and one that says why it cannot start has told what to do.
"""

from __future__ import annotations

import time
from typing import Any

from nbllama._version import __version__
from nbllama.worker import post_mortem
from nbllama.worker.errors import WorkerError
from nbllama.worker.runtime_dir import connection_file, read_json, runtime_dir, write_json

CRASHES = 3
WINDOW = 300.0
"""Seconds within which that many crashes are a loop, and after the last of which it is tried again."""

_FILE = "crashes.json"


def check(log_tail: str) -> None:
    """Called under the start lock when no worker answers. Raises WorkerError in a crash loop."""
    _note_the_last_one()
    crashes = _recent()
    if len(crashes) < CRASHES:
        return
    again = max(1, round(crashes[-1]["time"] + WINDOW - time.time()))
    raise WorkerError(
        f"the worker crashed {len(crashes)} times in {WINDOW / 60:.0f} minutes, the last time because "
        f"{crashes[-1]['why']}. It is tried again in {again} s, or at once after `nbllama stop`; "
        f"the end of its log:\n{log_tail}"
    )


def note(why: str, pid: int | None = None) -> None:
    """A crash, counted once for each `pid`."""
    crashes = _recent()
    if pid is not None and any(crash.get("pid") == pid for crash in crashes):
        return
    crashes.append({"time": time.time(), "why": why, "pid": pid})
    write_json(runtime_dir() / _FILE, {"version": __version__, "crashes": crashes[-2 * CRASHES :]})


def forget() -> None:
    """From now on it is tried again."""
    if read_json(runtime_dir() / _FILE) is not None:
        (runtime_dir() / _FILE).unlink(missing_ok=True)


def _note_the_last_one() -> None:
    # A worker that ends in order removes its connection file.
    info = read_json(connection_file())
    if info is not None and (why := post_mortem.crash(info)) is not None:
        pid = info.get("pid")
        note(why, pid if isinstance(pid, int) else None)


def _recent() -> list[dict[str, Any]]:
    found = read_json(runtime_dir() / _FILE) or {}
    crashes = found.get("crashes") if found.get("version") == __version__ else None
    if not isinstance(crashes, list):
        return []
    now = time.time()
    return [one for one in crashes if isinstance(one, dict) and _is_recent(one, now)]


def _is_recent(crash: dict[str, Any], now: float) -> bool:
    when = crash.get("time")
    return isinstance(when, (int, float)) and 0 <= now - when < WINDOW and isinstance(crash.get("why"), str)
