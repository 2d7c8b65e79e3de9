"""Does this build of llama.cpp survive its first decode? Tried once in a child process, and remembered.

Only a build that reports AMX is tried: some compilers make one that crashes there. The child runs this module:
`python -P -m nbllama.engine.library_trial MODEL`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

REBUILD = (
    'CMAKE_ARGS="-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__" pip install --force-reinstall '
    "--no-cache-dir --no-deps --no-binary llama-cpp-python llama-cpp-python"
)
WARNING = (
    "this build of llama.cpp crashes with AMX, so weights are not repacked for the processor and prompts are slower; "
    f"build it anew with: {REBUILD}"
)
N_TOKENS = 32
TIMEOUT = 60.0
"""Seconds for the child. One that takes longer did not crash."""


def crashes_with_amx(system_info: str, library: Path, model: Path, memory: Path, command: Sequence[str] = ()) -> bool:
    """Whether the library must be used without its extra buffers. Blocks for seconds, at the first call only.

    `memory` is the file that keeps the outcome, for this library at its age; `command` is the child's, for tests."""
    if "AMX_INT8 = 1" not in system_info:
        return False
    try:
        key = f"{library}:{library.stat().st_mtime_ns}"
    except OSError:
        key = str(library)
    known = _remembered(memory)
    if not isinstance(known.get(key), bool):
        known = {key: _dies(command or _command(model))}
        with contextlib.suppress(OSError):
            _keep(memory, known)
    return bool(known[key])


def _command(model: Path) -> list[str]:
    return [sys.executable, "-P", "-m", __name__, str(model)]


def _dies(command: Sequence[str]) -> bool:
    """Whether the child ends by a signal. One that fails in another way says nothing about the processor."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("the trial of llama.cpp could not be made: %s", type(error).__name__)
        return False
    if done.returncode < 0:
        log.warning("llama.cpp died with signal %d in its trial: %s", -done.returncode, WARNING)
    elif done.returncode:
        log.warning("the trial of llama.cpp failed: %s", done.stderr.decode(errors="replace")[-300:])
    return done.returncode < 0


def _remembered(memory: Path) -> dict[str, object]:
    try:
        with os.fdopen(os.open(memory, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(memory: Path, known: dict[str, object]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(memory, flags, 0o600), "w") as file:
        json.dump(known, file)


def _try(model: Path) -> None:
    """In the child: one decode, and out."""
    from nbllama.engine import llama_runtime
    from nbllama.engine.runtime import Row

    llama_runtime.initialise()
    options = llama_runtime.LlamaOptions(n_ctx=256, n_threads=1, max_sequences=1)
    runtime = llama_runtime.LlamaRuntime.load(model, "trial", options)
    runtime.decode([Row(1, position, 0, position == N_TOKENS - 1) for position in range(N_TOKENS)])


if __name__ == "__main__":
    _try(Path(sys.argv[1]))
