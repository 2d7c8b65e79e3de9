"""A runtime folder of the test's own with a fake worker in it, and a shell in process that collects its displays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbllama.notebook import trace
from nbllama.notebook.conversation import conversations
from nbllama.notebook.kernel_link import link
from nbllama.notebook.last_error import last_error
from nbllama.worker import starting
from tests.notebook.fake_worker import FakeWorker

_ENVIRONMENT = (
    "NBLLAMA_BASE_URL",
    "NBLLAMA_API_KEY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path in which no worker can be started, and a kernel that has asked nothing yet."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    monkeypatch.setenv("NBLLAMA_RUNTIME_DIR", str(folder))
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(starting, "_has_llama_cpp", lambda: False)
    monkeypatch.setattr(trace, "_last", None)
    # A fake worker's records do not come by waiting.
    monkeypatch.setattr(trace, "_PAUSE", 0.0)
    monkeypatch.setattr(last_error, "failed", None)
    conversations.clear()
    yield folder
    link.detach()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def worker(runtime: Path) -> Iterator[FakeWorker]:
    with FakeWorker(runtime) as fake:
        yield fake


class Shell:
    """One shell; `displays` are (bundle, is it an update), in order."""

    def __init__(self, shell: Any) -> None:
        self.ip = shell
        self.displays: list[tuple[dict[str, Any], bool]] = []

    def run(self, cell: str) -> Any:
        """The result of a cell; raises what the cell raised."""
        result = self.ip.run_cell(cell)
        result.raise_error()
        return result.result

    def fails(self, cell: str) -> BaseException:
        """What a cell raised; fails if it raised nothing."""
        result = self.ip.run_cell(cell)
        error = result.error_in_exec or result.error_before_exec
        assert isinstance(error, BaseException), "the cell did not fail"
        return error

    @property
    def last(self) -> dict[str, Any]:
        return self.displays[-1][0]


@pytest.fixture
def shell(worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    InteractiveShell.clear_instance()
    config = Config({"HistoryManager": {"enabled": False}})
    collected = Shell(InteractiveShell.instance(config=config, colors="nocolor"))

    def publish(data: dict[str, Any], metadata: Any = None, *, update: bool = False, **_: Any) -> None:
        collected.displays.append((data, update))

    monkeypatch.setattr(collected.ip.display_pub, "publish", publish)
    collected.run("%load_ext nbllama")
    yield collected
    InteractiveShell.clear_instance()
