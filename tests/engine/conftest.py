"""The tiny random llama, written once a module. llama.cpp is imported by who asks for it alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbllama.engine.loop import EngineLoop

if TYPE_CHECKING:
    from nbllama.engine.llama_runtime import LlamaRuntime


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nbllama.engine.llama_runtime import initialise
    from tests.engine.tiny_gguf import write_tiny_llama
    from tests.engine.tiny_model import DEMO

    initialise()
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", DEMO)


@pytest.fixture
def tiny(tiny_path: Path) -> Iterator[tuple[EngineLoop, LlamaRuntime]]:
    from nbllama.engine.llama_runtime import LlamaRuntime
    from tests.engine.tiny_model import EXACT

    runtime = LlamaRuntime.load(tiny_path, "tiny", EXACT)
    loop = EngineLoop()
    loop.add_model("model", runtime)
    loop.start()
    yield loop, runtime
    loop.check_integrity()
    loop.close()
