"""Starting a worker: with which interpreter, in what environment, and what to say when it does not come up.

Called under the start lock only, so there is one starter at a time.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbllama.errors
from nbllama.worker import crash_loop, post_mortem
from nbllama.worker.client_http import Endpoint
from nbllama.worker.errors import WorkerError
from nbllama.worker.finding import find
from nbllama.worker.runtime_dir import interpreter_file, log_file, open_own, read_json, runtime_dir, write_json

LOG_LINES = 12

_KEPT = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP",
    "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE",
    "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE",
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA",
    "PROGRAMDATA",
}  # fmt: skip
# What the libraries of the engine read, and where Jupyter's configuration lies.
_KEPT_PREFIXES = (
    "LC_", "XDG_", "JUPYTER_", "NBLLAMA_", "CONDA_", "DYLD_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "GGML_", "LLAMA_",
    "OMP_", "GOMP_", "KMP_", "VK_",
)  # fmt: skip
_SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
_CRASHES = {signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGFPE, getattr(signal, "SIGBUS", signal.SIGSEGV)}
# Where a client finds its server: of no concern to the worker.
_CLIENT_ONLY = {"NBLLAMA_BASE_URL", "NBLLAMA_HUB_URL", "NBLLAMA_REPLAY", "NBLLAMA_REPLAY_SPEED"}


@dataclass(frozen=True)
class Interpreter:
    """A Python that can run the worker. `python_path` is what it needs as PYTHONPATH, empty if nothing."""

    python: str
    python_path: str = ""


def start(*, model: str | None, ctx: int | None, on_wait: Callable[[str], None], timeout: float) -> Endpoint:
    """Starts a worker and waits until it answers. Raises WorkerError with the end of its log if it does not."""
    interpreter = _interpreter()
    crash_loop.check(log_tail())
    command = [interpreter.python, "-P", "-m", "nbllama.worker"]
    command += ["--model", absolute_reference(model)] if model is not None else []
    command += ["--ctx", str(ctx)] if ctx is not None else []
    on_wait("starting the nbllama worker")
    log = open_own(log_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    kills = post_mortem.oom_kills()
    try:
        log_start = os.fstat(log).st_size
        process = _spawn(command, worker_environment(os.environ, interpreter.python_path), log)
    finally:
        os.close(log)
    try:
        return _wait(process, log_start, timeout, kills)
    except KeyboardInterrupt:
        # Left alone it would come up beside the next one, or take its place after that was stopped.
        process.terminate()
        _leave(process)
        raise


def same_environment(endpoint: Endpoint) -> bool:
    """Whether that worker runs from the environment of this process."""
    return endpoint.info.get("prefix") == sys.prefix


def record_interpreter() -> None:
    """Notes that this interpreter has llama_cpp, for environments that have not."""
    if _has_llama_cpp():
        write_json(interpreter_file(), {"python": sys.executable, "python_path": own_python_path(os.environ)})


def worker_environment(environment: Mapping[str, str], python_path: str) -> dict[str, str]:
    """The environment of the worker: what it needs, without keys, tokens and proxies."""
    kept = {name: value for name, value in environment.items() if _is_kept(name)}
    # How long llama.cpp's threads spin at their barriers: long enough for a quiet machine (1,000 costs 6 % of the
    # tokens/s there), short enough beside busy processes (docs/decisions/thread-barriers.md). It counts only before
    # libgomp loads.
    kept.setdefault("GOMP_SPINCOUNT", "10000")
    kept["PYTHONUNBUFFERED"] = "1"
    if python_path:
        kept["PYTHONPATH"] = python_path
    if "NBLLAMA_MODEL" in kept:
        kept["NBLLAMA_MODEL"] = absolute_reference(kept["NBLLAMA_MODEL"])
    return kept


def own_python_path(environment: Mapping[str, str]) -> str:
    """What another process of this interpreter needs as PYTHONPATH to import nbllama as this one did.

    The user's own PYTHONPATH is not passed on: a student's `queue.py` in it would shadow the standard library. Two
    things are: folders of installed packages (environment modules on clusters set them), and the folder that nbllama
    was imported from if the interpreter would not find it by itself (a checkout)."""
    folders = [Path(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    kept = [folder for folder in folders if folder.is_absolute() and folder.name in ("site-packages", "dist-packages")]
    root = Path(nbllama.errors.__file__).resolve().parents[1]
    if root not in kept and root not in _site_folders():
        kept.append(root)
    return os.pathsep.join(map(str, kept))


def absolute_reference(model: str) -> str:
    """A model reference as the worker, which runs in another folder, must be given it."""
    prefix, path = ("scripted:", model[9:]) if model.startswith("scripted:") else ("", model)
    if path.startswith("~") or not (prefix or path.endswith(".gguf")):
        return model
    return prefix + os.path.abspath(path)


def log_tail(start: int = 0) -> str:
    """The last lines of the worker's log, from byte `start` on."""
    try:
        with os.fdopen(open_own(log_file(), os.O_RDONLY), "rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, WorkerError):
        return ""
    return "\n".join(lines[-LOG_LINES:])


def _interpreter() -> Interpreter:
    """This Python if it has llama_cpp, else the one that is recorded as having it. Raises WorkerError."""
    if _has_llama_cpp():
        return Interpreter(sys.executable, own_python_path(os.environ))
    recorded = read_json(interpreter_file()) or {}
    python, python_path = recorded.get("python"), recorded.get("python_path", "")
    if isinstance(python, str) and isinstance(python_path, str) and os.access(python, os.X_OK):
        return Interpreter(python, python_path)
    raise WorkerError(
        f"no worker is running, and {sys.executable} has no llama_cpp to start one: install llama-cpp-python there, "
        "or start one with `nbllama serve` in an environment that has it"
    )


def _has_llama_cpp() -> bool:
    """Looked for, never imported: importing takes a second and may abort the process."""
    try:
        return importlib.util.find_spec("llama_cpp") is not None
    except (ImportError, ValueError):
        return False


def _spawn(command: list[str], environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            # A neutral folder of ours, and a session of its own: a kernel's interrupt must not reach it.
            cwd=runtime_dir(),
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError as error:
        raise WorkerError(f"the worker could not be started with {command[0]}: {error}") from error


def _wait(process: subprocess.Popen[bytes], log_start: int, timeout: float, kills: int | None) -> Endpoint:
    deadline = time.monotonic() + timeout
    while True:
        exit_code = process.poll()
        # Asked after the poll: a worker that lost a race against another ends, and the other is then found here.
        endpoint = find()
        if endpoint is not None:
            _leave(process)
            return endpoint
        if exit_code is not None:
            raise _ended(process.pid, exit_code, log_start, kills)
        if time.monotonic() >= deadline:
            process.kill()
            process.wait()
            raise WorkerError(f"the worker did not answer within {timeout:.0f} s:\n{log_tail(log_start)}")
        time.sleep(0.05)


def _ended(pid: int, exit_code: int, log_start: int, kills: int | None) -> WorkerError:
    """What to say of a worker that ended before it answered. A crash is noted."""
    last_words, ending = log_tail(log_start), _ending(exit_code)
    why = post_mortem.crash({"pid": pid, "log": str(log_file()), "oom_kills": kills}) if exit_code < 0 else None
    if why is not None or -exit_code in _CRASHES or "Traceback (most recent call last)" in last_words:
        crash_loop.note(why or f"it ended at its start with {ending}", pid)
    return WorkerError(f"the worker ended at its start ({ending}{f': {why}' if why else ''}):\n{last_words}")


def _leave(process: subprocess.Popen[bytes]) -> None:
    """The worker outlives us; until then its end is taken note of, so that no zombie stays under this process."""
    threading.Thread(target=process.wait, name="nbllama-worker-reaper", daemon=True).start()


def _ending(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _is_kept(name: str) -> bool:
    known = name.upper() in _KEPT or name.startswith(_KEPT_PREFIXES)
    return known and name not in _CLIENT_ONLY and not any(word in name.upper() for word in _SECRETS)


def _site_folders() -> set[Path]:
    return {Path(folder).resolve() for folder in [*site.getsitepackages(), site.getusersitepackages()]}
