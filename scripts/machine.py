"""What this machine has and lacks. Nothing is installed here, and never with sudo: what is missing is named at once."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from progress import Failed

OLDEST_PYTHON = (3, 11)
DISK_FOR_PACKAGES = 1.2e9
"""Bytes: the environment takes 0.7 GB, and pip unpacks what it installs."""
DISK_FOR_BUILD = 1e9
"""Bytes: source and object files of llama.cpp, until the wheel is there."""
MEMORY_PER_JOB = 1.5e9
"""Bytes. The largest source of llama.cpp takes 0.7 GB to compile; the rest is for what else runs."""
PLENTY_OF_MEMORY = 4e9


def use_new_enough_python(script: Path) -> None:
    """Goes on with a newer Python of this machine if this one is too old. Returns if there is none: `check` says so."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in range(14, OLDEST_PYTHON[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other:
            os.execv(other, [other, str(script), *sys.argv[1:]])


def check(clone: Path, build_folder: Path | None) -> None:
    """Raises Failed naming all that is missing, with the command that installs it.

    `build_folder` is where llama.cpp will be built, None if it was built before: then no compiler is needed."""
    missing = _missing(builds=build_folder is not None)
    if missing:
        raise Failed(_what_to_do(missing))
    if not (clone / ".venv").exists():
        _check_disk(clone, DISK_FOR_PACKAGES)
    if build_folder is not None:
        _check_disk(build_folder, DISK_FOR_BUILD)
        if memory() < MEMORY_PER_JOB:
            print(f"   only {memory() / 1e9:.1f} GB of memory: swap space may be needed", flush=True)


def build_jobs() -> int:
    """How many compilers may run side by side."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, int(memory() / MEMORY_PER_JOB)))


def memory() -> float:
    """Bytes that this process may use: the machine's or the container's, the smaller."""
    return min(_machine_memory(), _container_memory())


def processor() -> str:
    """Names what the compiler's `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(line for line in lines if line.startswith(wanted)) or platform.machine()


def compiler() -> str:
    """The compiler's own name and version; empty if there is none."""
    found = compiler_path()
    return _output([found, "--version"]).split("\n")[0] if found else ""


def compiler_path() -> str | None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


def _check_disk(folder: Path, needed: float) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Failed(f"{folder} has {free / 1e9:.1f} GB of free disk space; {needed / 1e9:.1f} GB are needed")


def _missing(*, builds: bool) -> list[str]:
    """What is missing, in Debian's package names where it has one."""
    missing = []
    if sys.version_info < OLDEST_PYTHON:
        missing.append("python3")
    elif not _has_venv():
        missing.append("python3-venv")
    if builds and not compiler():
        missing.append("g++")
    return missing


def _has_venv() -> bool:
    """Debian ships `venv` without the `ensurepip` it needs in another package."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def _what_to_do(missing: list[str]) -> str:
    names = {
        "python3": f"Python 3.11 or newer (this is {platform.python_version()})",
        "python3-venv": "Python's venv module",
        "g++": "a C++ compiler",
    }
    said = ", ".join(names[name] for name in missing)
    return f"missing: {said}. Install it and run the same command again:\n   {_command(missing)}"


def _command(missing: list[str]) -> str:
    if sys.platform == "darwin":
        tools = ["xcode-select --install"] if "g++" in missing else []
        return " && ".join(tools + (["brew install python"] if "python3" in missing else []))
    as_root = "" if os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get"):
        return f"{as_root}apt-get install {' '.join(missing)}"
    if shutil.which("dnf"):
        packages = {"g++": "gcc-c++", "python3": "python3.12", "python3-venv": "python3-pip"}
        return f"{as_root}dnf install {' '.join(packages[name] for name in missing)}"
    return "with your system's package manager: " + ", ".join(missing)


def _machine_memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return PLENTY_OF_MEMORY


def _container_memory() -> float:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return float(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return float("inf")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
