"""An interrupt in a real kernel: the model is stopped, what came stays, and "Run all" stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from tests.notebook.fake_worker import HOLD, FakeWorker, start_of_text, text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kernel(worker: FakeWorker, runtime: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    env = {**os.environ, "IPYTHONDIR": str(runtime / "ipython")}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT), env=env)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_interrupt(kernel: tuple[KernelManager, BlockingKernelClient], worker: FakeWorker) -> None:
    manager, client = kernel
    worker.steps = [*start_of_text(), text("Once"), HOLD]
    client.execute_interactive("%load_ext nbllama", timeout=60)
    seen: list[dict[str, Any]] = []
    interrupted = False

    def collect(message: dict[str, Any]) -> None:
        nonlocal interrupted
        seen.append(message)
        # The first display comes with the answer's first event; by then the cell waits for the model.
        if message["msg_type"] == "display_data" and not interrupted:
            interrupted = True
            manager.interrupt_kernel()

    reply = client.execute_interactive("%%llama\nTell", timeout=60, output_hook=collect)

    assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "KeyboardInterrupt")
    assert worker.client_gone.wait(10)
    assert [message["msg_type"] for message in seen].count("display_data") == 1
    updates = [message for message in seen if message["msg_type"] == "update_display_data"]
    assert "interrupted" in updates[-1]["content"]["data"]["text/html"]
    client.execute_interactive("print(6 * 7)", timeout=60, output_hook=seen.append)
    assert seen[-2]["content"].get("text") == "42\n"
