"""Of what a worker died: read from the end of its log and from what the kernel counts. Standard library only.

A crash in the C library leaves faulthandler's words in the log. The kernel's killer for lack of memory leaves none, but
it is counted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from nbllama.worker.errors import WorkerError
from nbllama.worker.runtime_dir import open_own

REBUILD = (
    'CMAKE_ARGS="{flags}" pip install --force-reinstall --no-cache-dir --no-deps '
    "--no-binary llama-cpp-python llama-cpp-python"
)
_PORTABLE = "-DGGML_NATIVE=OFF"
_WITHOUT_AMX = "-DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__"
_TAIL = 65_536
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Illegal instruction": "SIGILL",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
}
_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_BUILD = re.compile(r"(llama-cpp-python \S+ \([^\n]*\))")
_ASSERTION = re.compile(r"^(.*GGML_ASSERT.*|.*GGML_ABORT.*)$", re.MULTILINE)


def crash(info: dict[str, Any]) -> str | None:
    """How the worker of this connection file crashed, or was killed for lack of memory; None if nothing tells it."""
    text = _own_part(_log(info), info.get("pid"))
    fatal = _FATAL.search(text)
    if fatal is not None:
        return _fault(text, fatal)
    before, now = info.get("oom_kills"), oom_kills()
    if isinstance(before, int) and now is not None and now > before:
        return f"the machine ran out of memory, and the kernel killed what was largest ({_memory()})"
    return None


def oom_kills() -> int | None:
    """How many processes the kernel has killed for lack of memory: of this control group where it tells, else all."""
    for group in _groups():
        if (count := _count(group)) is not None:
            return count
    return _count(Path("/proc/vmstat"))


def _fault(text: str, fatal: re.Match[str]) -> str:
    name = _SIGNALS.get(fatal[1].strip(), fatal[1].strip())
    # The other threads' stacks are there too.
    trace = text[fatal.end() :].partition("Current thread ")[2].partition("\n\n")[0]
    where = ""
    if re.search(r"llama_runtime\.py\", line \d+ in decode", trace):
        # Of a long log only the end was read: then it has worked for long.
        first = " starts: nbllama " in text and "first decode done" not in text[: fatal.start()]
        where = " in its first decode" if first else " in a later decode"
    said = f"it crashed with {name}{where}"
    if assertion := _ASSERTION.search(text):
        said += f": {assertion[1].strip()}"
    build = _BUILD.findall(text[: fatal.start()])
    if where == " in its first decode" and name in ("SIGSEGV", "SIGILL"):
        flags = _WITHOUT_AMX if build and "AMX_INT8 = 1" in build[-1] else _PORTABLE
        return (
            f"{said}: this build of llama.cpp does not suit this machine's processor "
            f"({build[-1] if build else 'build unknown'}); build it anew with: {REBUILD.format(flags=flags)}"
        )
    return said


def _log(info: dict[str, Any]) -> str:
    path = info.get("log")
    if not isinstance(path, str):
        return ""
    try:
        with os.fdopen(open_own(Path(path), os.O_RDONLY), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read().decode(errors="replace")
    except (OSError, WorkerError):
        return ""


def _own_part(text: str, pid: object) -> str:
    """What came after this worker's first line, if that is still there: the log is that of all workers."""
    begin = text.rfind(f" pid {pid} starts:")
    end = text.find(" starts: nbllama ", begin + len(f" pid {pid} starts: nbllama ")) if begin >= 0 else -1
    return text[max(begin, 0) : end if end >= 0 else len(text)]


def _groups() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    root, found = Path("/sys/fs/cgroup"), []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found.append(root / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(root / "memory" / path.lstrip("/") / "memory.oom_control")
    return found


def _count(path: Path) -> int | None:
    try:
        fields = dict(line.split(None, 1) for line in path.read_text().splitlines() if " " in line)
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def _memory() -> str:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return "a smaller model or context needs less"
    return f"now {free / 1e9:.1f} of {total / 1e9:.1f} GB are free; a smaller model or context needs less"
