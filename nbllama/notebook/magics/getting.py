"""`%llama get NAME`: fetches a model into the user's cache, as `nbllama models get` does, and by that command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from nbllama.notebook.kernel_link import is_elsewhere
from nbllama.worker.errors import WorkerError

_SECONDS_TO_TIDY_UP = 10.0


def get_model(name: str, say: Callable[[str], None], command: Sequence[str] = ()) -> str:
    """What to tell when it is here; progress is said meanwhile. Raises WorkerError with the command's reason.

    An interrupt ends the command, which leaves nothing behind. `command` is its beginning, for tests."""
    if is_elsewhere():
        raise WorkerError("NBLLAMA_BASE_URL points at another server: fetch the model where that one runs")
    command = [*(command or [sys.executable, "-P", "-m", "nbllama", "models", "get"]), name]
    said: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line.rstrip("\n"))
                if not line.startswith("nbllama: "):
                    say(said[-1])
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code != 0:
        raise WorkerError(said[-1].removeprefix("nbllama: ") if said else f"nbllama models get ended with code {code}")
    return f"{name} is here; load it with: %llama load {name}"


def _end(process: subprocess.Popen[str]) -> None:
    # As Ctrl-C would, so that it removes what is half there. On Windows it can only be ended.
    process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_TIDY_UP)
        return
    process.kill()
