"""Prefixes that wait in memory: which are kept, which are found, and that a real model goes on from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nbllama.answer.model_sources import resolve
from nbllama.engine import llama_runtime
from nbllama.engine.idle_prefixes import IDLE_CELLS
from nbllama.engine.loop import EngineLoop
from nbllama.engine.prefix_store import PrefixStore
from nbllama.engine.runtime import Runtime
from nbllama.engine.scripted_runtime import Script, ScriptedRuntime
from tests.engine.harness import submit, wait

CACHE = 1 << 30


def cells(n_bytes: int) -> np.ndarray:
    return np.zeros(n_bytes, dtype=np.uint8)


def test_the_longest_common_prefix_is_found() -> None:
    store = PrefixStore(1000)
    store.put([1, 2, 3, 4], cells(10))
    store.put([1, 2, 9], cells(10))
    found = store.best([1, 2, 3, 5], whole=False)
    assert found is not None and (found[0].tokens, found[1]) == ((1, 2, 3, 4), 3)
    assert store.best([7], whole=False) is None


def test_memory_that_cannot_be_cut_is_found_whole_or_not_at_all() -> None:
    store = PrefixStore(1000)
    store.put([1, 2, 3, 4], cells(10))
    assert store.best([1, 2, 3, 5], whole=True) is None
    found = store.best([1, 2, 3, 4, 5], whole=True)
    assert found is not None and found[1] == 4


def test_what_is_continued_is_superseded_and_what_is_unused_goes_first() -> None:
    store = PrefixStore(25)
    store.put([1, 2], cells(10))
    store.put([1, 2, 3], cells(10))
    assert (len(store), store.n_bytes) == (1, 10)
    store.put([4], cells(10))
    store.put([5], cells(10))
    assert store.best([1, 2, 3], whole=False) is None
    assert (len(store), store.n_bytes) == (2, 20)


def test_a_branch_keeps_the_trunk() -> None:
    store = PrefixStore(1000)
    store.put(list(range(100)), cells(10))
    found = store.best(list(range(20)), whole=False)
    assert found is not None
    store.use(*found)
    assert (len(store), store.n_bytes) == (1, 10)
    found = store.best(list(range(90)), whole=False)
    assert found is not None
    store.use(*found)
    assert (len(store), store.n_bytes) == (0, 0)


def scripted() -> ScriptedRuntime:
    return ScriptedRuntime(Script(default="fine", max_sequences=4))


def demo() -> Runtime:
    llama_runtime.initialise()
    return llama_runtime.LlamaRuntime.load(resolve("demo").path, "demo", llama_runtime.LlamaOptions(max_sequences=4))


@pytest.fixture(params=[scripted, demo])
def loop(request: pytest.FixtureRequest) -> Iterator[EngineLoop]:
    loop = EngineLoop(cache_bytes=CACHE)
    loop.start()
    loop.add_model("model", request.param())
    yield loop
    loop.close()


def prompt(seed: int, n_tokens: int = 600) -> list[int]:
    """Bytes to the scripted model, anything to the other."""
    return [97 + seed, *(32 + (seed + 3 * i) % 90 for i in range(n_tokens - 1))]


def test_more_conversations_than_sequences_all_find_their_prefix(loop: EngineLoop) -> None:
    first = [submit(loop, f"a{i}", prompt(i), max_tokens=4) for i in range(8)]
    wait(*first)
    for i in range(8):
        again = submit(loop, f"b{i}", [*prompt(i), 65, 66], max_tokens=4)
        wait(again)
        assert again.cached >= 600
    loop.check_integrity()


def test_an_answer_goes_on_from_memory_as_from_the_cells() -> None:
    """F32 cells and no flash attention: else numbers depend on where the cells lie."""
    options = llama_runtime.LlamaOptions(max_sequences=2, flash_attention=False, f32_cells=True)
    llama_runtime.initialise()
    texts = []
    for cache_bytes in (CACHE, 0):
        loop = EngineLoop(cache_bytes=cache_bytes)
        loop.start()
        loop.add_model("model", llama_runtime.LlamaRuntime.load(resolve("demo").path, "demo", options))
        for seed in range(3):
            wait(submit(loop, f"first{seed}", prompt(seed), max_tokens=1))
        last = submit(loop, "again", [*prompt(0), 65], max_tokens=32)
        wait(last)
        texts.append(last.ids)
        assert last.cached == (600 if cache_bytes else 0)
        loop.close()
    assert texts[0] == texts[1]


def test_few_cells_lie_idle_beside_a_running_request() -> None:
    runtime = scripted()
    loop = EngineLoop(cache_bytes=CACHE)
    loop.start()
    loop.add_model("model", runtime)
    wait(*[submit(loop, f"a{i}", prompt(i), max_tokens=1) for i in range(4)])
    last = submit(loop, "last", prompt(9), max_tokens=1)
    wait(last)
    n_used = sum(len(cells) for cells in runtime._cells)
    assert n_used <= 600 + IDLE_CELLS + 1
    loop.close()


@pytest.mark.parametrize("cache_bytes", [0, 100])
def test_without_memory_prefixes_stay_in_the_cells(cache_bytes: int) -> None:
    loop = EngineLoop(cache_bytes=cache_bytes)
    loop.start()
    loop.add_model("model", scripted())
    wait(*[submit(loop, f"a{i}", prompt(i), max_tokens=1) for i in range(3)])
    again = submit(loop, "again", [*prompt(0), 65], max_tokens=1)
    wait(again)
    assert again.cached == 600
    loop.close()
