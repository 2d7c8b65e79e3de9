"""A real kernel that starts its own worker, with a model by a script: cells are run, and interrupted, from outside."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from nbllama.errors import NbllamaError
from nbllama.worker import connection

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds. Only a failure waits for so long."""

WORDS = "one two three four five six seven eight nine ten"
SCRIPT = {
    "max_sequences": 1,
    "n_batch": 16,
    "prefill_s": 0.002,
    "rules": [
        {"when": "slow", "answer": "tick " * 3000, "delay_s": 0.05},
        {"when": "call", "answer": '<tool_call>\n{"name": "f", "arguments": {"x": "' + "y " * 3000, "delay_s": 0.02},
    ],
    "default": WORDS,
}


class Kernel:
    """One kernel. `outputs` are the messages of the last cell that was run."""

    def __init__(self, folder: Path, model: str) -> None:
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NBLLAMA_", "ANTHROPIC_"))},
            "IPYTHONDIR": str(folder / "ipython"),
            "NBLLAMA_RUNTIME_DIR": str(folder),
            "NBLLAMA_MODEL": model,
        }
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(ROOT), env=self._env)
        self.outputs: list[dict[str, Any]] = []
        # Queued cells are the same channel's: those of execute_interactive would wait for each other.
        assert self.run("%load_ext nbllama\nimport asyncio, time, anthropic, nbllama")["status"] == "ok"

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        # jupyter_client's blocking calls leave an event loop behind in each test: collected here, not in other files.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def run(self, code: str, *, stop_when: Callable[[dict[str, Any]], bool] | None = None, n: int = 1) -> Any:
        """The reply to a cell. At the first output for which `stop_when` holds, the kernel is interrupted `n` times."""
        self.outputs = []
        done = stop_when is None

        def collect(message: dict[str, Any]) -> None:
            nonlocal done
            self.outputs.append(message)
            if not done and stop_when is not None and stop_when(message):
                done = True
                for _ in range(n):
                    self.manager.interrupt_kernel()

        return self.client.execute_interactive(code, timeout=PATIENCE, output_hook=collect)["content"]

    def run_all(self, *cells: str) -> list[str]:
        """The status of each cell, all of them asked for at once, as "Run all" does."""
        ids = [self.client.execute(cell) for cell in cells]
        replies: dict[str, str] = {}
        while len(replies) < len(ids):
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
        return [replies[id] for id in ids]

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel, by way of JSON."""
        reply = self.run(f"import json; print(json.dumps({expression}))")
        assert reply["status"] == "ok", reply
        return json.loads(self.printed)

    def interrupt_when(self, condition: Callable[[], bool]) -> threading.Thread:
        """Interrupts, from another thread, as soon as the condition holds."""

        def watch() -> None:
            wait_until(condition)
            self.manager.interrupt_kernel()

        thread = threading.Thread(target=watch)
        thread.start()
        return thread

    @property
    def printed(self) -> str:
        return "".join(one["content"]["text"] for one in self.outputs if one["msg_type"] == "stream")

    @property
    def shown(self) -> dict[str, Any]:
        """The last display, as it is at its end."""
        kinds = ("display_data", "update_display_data")
        displays = [one["content"]["data"] for one in self.outputs if one["msg_type"] in kinds]
        data: dict[str, Any] = displays[-1]
        return data

    @property
    def traceback(self) -> list[str]:
        """The lines that an error shows, without colours."""
        return [line for one in self.outputs if one["msg_type"] == "error" for line in one["content"]["traceback"]]


@contextlib.contextmanager
def real_kernel(script: dict[str, Any] | None = None, model: str = "scripted:model.json") -> Iterator[Kernel]:
    """In a runtime folder of its own, which NBLLAMA_RUNTIME_DIR names here too; its worker is ended at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    if script is not None:
        (folder / "model.json").write_text(json.dumps(script))
        model = f"scripted:{folder / 'model.json'}"
    before = os.environ.get("NBLLAMA_RUNTIME_DIR")
    os.environ["NBLLAMA_RUNTIME_DIR"] = str(folder)
    kernel = Kernel(folder, model)
    try:
        yield kernel
    finally:
        kernel.close()
        worker = connection.find()
        if worker is not None and worker.pid is not None:
            os.kill(worker.pid, signal.SIGTERM)
            connection.wait_until_gone(worker, timeout=PATIENCE)
        if before is None:
            del os.environ["NBLLAMA_RUNTIME_DIR"]
        else:
            os.environ["NBLLAMA_RUNTIME_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def requests() -> list[dict[str, Any]]:
    """What the worker works on, with the state of each."""
    worker = connection.find()
    if worker is None:
        return []
    found: list[dict[str, Any]] = connection.request_json(worker, "GET", "/nbllama/status")["requests"]
    return found


def busy() -> bool:
    with contextlib.suppress(NbllamaError):
        return bool(requests())
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"it did not come true; the worker has {requests()}")


def shows(word: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an output has that word in it: printed or displayed."""

    def check(message: dict[str, Any]) -> bool:
        content = message["content"]
        return word in content.get("text", "") or word in content.get("data", {}).get("text/html", "")

    return check
