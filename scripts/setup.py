"""Sets up a clone: checks the machine, makes .venv, builds llama.cpp, installs nbllama. `make` calls it.

Standard library only, and readable by old Pythons, so that what is missing can be said by whatever `python3` there is.
A second run finds everything done within a second; an interrupted one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import llama_wheel
import machine
from progress import Failed, run, step

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "nbllama-setup.json"
LOG = VENV / "nbllama-setup.log"
EXTRAS = "lab,dev"

CHECK = """
import llama_cpp, nbllama
info = llama_cpp.llama_print_system_info().decode()
raise SystemExit("this build uses AMX, which crashes" if "AMX_INT8 = 1" in info else 0)
"""


def main() -> int:
    machine.use_new_enough_python(Path(__file__))
    wanted = wanted_state()
    if is_done(wanted):
        return 0
    started = time.monotonic()
    try:
        set_up(wanted)
    except Failed as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on from here")
    print(f"nbllama: set up in {time.monotonic() - started:.0f} s", flush=True)
    return 0


def set_up(wanted: dict[str, str]) -> None:
    """The five steps. Raises Failed with a sentence for the user."""
    if STAMP.exists():
        STAMP.unlink()
    cached = llama_wheel.cached()
    step(1, 5, "checking this machine")
    machine.check(ROOT, None if cached else llama_wheel.folder())
    step(2, 5, "Python environment in .venv")
    make_venv()
    step(3, 5, "llama.cpp " + ("(built before)" if cached else "(built for this machine; takes some minutes)"))
    wheel = cached or llama_wheel.build(VENV_PYTHON)
    step(4, 5, "nbllama and what it needs")
    install(wheel)
    step(5, 5, "trying it")
    run([str(VENV_PYTHON), "-c", CHECK], log=LOG, what="trying the installed packages")
    STAMP.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def make_venv() -> None:
    if has_working_pip():
        return
    # --clear: half an environment, or one whose Python has gone, is made anew.
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], what="making the environment")


def has_working_pip() -> bool:
    if not VENV_PYTHON.exists():
        return False
    return (
        subprocess.run([str(VENV_PYTHON), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    )


def install(wheel: Path) -> None:
    """The package as a developer wants it (editable), with the wheel that was built here."""
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run([*command, str(wheel), "-e", f"{ROOT}[{EXTRAS}]"], log=LOG, what="installing", show=pip_line)


def pip_line(line: str) -> str | None:
    """What of pip's output is worth the one line of progress."""
    line = line.strip()
    if line.startswith(("Collecting ", "Downloading ", "Building ", "Installing ")):
        return line.split(" (")[0][:70]
    return None


def wanted_state() -> dict[str, str]:
    """What a finished set-up depends on, each as a digest or a version."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "nbllama/_version.py", "jupyter-config/server-config/nbllama.json"):
        digest.update((ROOT / name).read_bytes())
    return {
        "project": digest.hexdigest(),
        "llama": llama_wheel.key(),
        "extras": EXTRAS,
        "folder": str(ROOT),
    }


def is_done(wanted: dict[str, str]) -> bool:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Its Python may have been removed from under it.
    return bool(found == wanted) and os.access(VENV_PYTHON, os.X_OK)


def complain(text: str) -> int:
    print(f"nbllama: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
