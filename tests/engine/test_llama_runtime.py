"""The real llama.cpp: outputs compared on a tiny F32 model, behaviour on the embedded demo model.

Equality is asked of F32 weights, F32 cells and no flash attention only: there batch shapes change logits by less than
1e-5, while quantised weights may flip a token.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from nbllama.engine.errors import EngineStopped, LoadFailed
from nbllama.engine.jobs import Finished
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime, initialise
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Row
from nbllama.engine.sampling import SamplingSettings
from tests.engine.harness import submit, wait
from tests.engine.tiny_model import DEMO, EXACT


def prompt(runtime: LlamaRuntime, text: str) -> list[int]:
    return runtime.vocabulary.tokenize(text, parse_control=False)


def test_ten_streams_at_once_equal_their_solo_runs(tiny: tuple[EngineLoop, LlamaRuntime]) -> None:
    loop, runtime = tiny
    prompts = [prompt(runtime, f"Stream number {i}: " + "and so on " * i) for i in range(10)]
    solo = []
    for i, ids in enumerate(prompts):
        job = submit(loop, f"solo{i}", ids, max_tokens=24)
        wait(job)
        solo.append(job.ids)

    together = [submit(loop, f"all{i}", ids, max_tokens=24) for i, ids in enumerate(prompts)]
    wait(*together)

    assert [job.ids for job in together] == solo
    assert len({tuple(ids) for ids in solo}) > 5, "the model says the same to everything: the test would see nothing"


def test_a_cut_prefix_gives_the_same_answer_as_none(tiny: tuple[EngineLoop, LlamaRuntime]) -> None:
    loop, runtime = tiny
    ids = prompt(runtime, "The quick brown fox jumps over the lazy dog and")
    first = submit(loop, "first", ids, max_tokens=16)
    wait(first)

    again = submit(loop, "again", ids, max_tokens=16)
    wait(again)

    assert again.cached == len(ids) - 1
    assert again.ids == first.ids


def test_a_shared_prefix_is_copied_while_its_owner_decodes(
    tiny: tuple[EngineLoop, LlamaRuntime], tiny_path: Path
) -> None:
    loop, runtime = tiny
    common = prompt(runtime, "A long common beginning, which two conversations have: ")
    other = [*common, *prompt(runtime, "second")]
    alone = submit(loop, "alone", other, max_tokens=16)
    wait(alone)
    loop2 = EngineLoop()
    loop2.add_model("model", runtime_of(tiny_path))
    loop2.start()

    long = submit(loop2, "long", [*common, *prompt(runtime, "first")], max_tokens=300)
    assert long.first_token.wait(30)
    short = submit(loop2, "short", other, max_tokens=16)
    wait(short, long)
    loop2.check_integrity()
    loop2.close()

    assert short.cached == len(common)
    assert short.ids == alone.ids


def runtime_of(path: Path) -> LlamaRuntime:
    return LlamaRuntime.load(path, "tiny", EXACT)


def test_preempted_streams_give_the_same_answers(tiny_path: Path) -> None:
    loop = EngineLoop()
    runtime = LlamaRuntime.load(tiny_path, "tiny", EXACT)
    loop.add_model("model", runtime)
    loop.start()
    prompts = [prompt(runtime, f"Number {i} " + "tells a story " * 12) for i in range(6)]
    solo = []
    for i, ids in enumerate(prompts):
        job = submit(loop, f"solo{i}", ids, max_tokens=200)
        wait(job)
        solo.append(job.ids)

    together = [submit(loop, f"all{i}", ids, max_tokens=200) for i, ids in enumerate(prompts)]
    wait(*together)
    loop.check_integrity()
    loop.close()

    n_tokens = sum(map(len, solo)) + sum(map(len, prompts))
    assert n_tokens > runtime.info.n_cells, "the cells would hold all of them: the test would see nothing"
    assert [job.ids for job in together] == solo


def test_a_context_smaller_than_a_batch_takes_many_prompts_at_once(tiny_path: Path) -> None:
    runtime = LlamaRuntime.load(tiny_path, "tiny", LlamaOptions(n_ctx=128, n_threads=1))
    loop = EngineLoop()
    loop.add_model("model", runtime)
    loop.start()

    jobs = [submit(loop, f"{i}", [20 + i] * 60, max_tokens=2) for i in range(4)]
    wait(*jobs)
    loop.check_integrity()
    loop.close()

    assert runtime.info.n_batch <= 128
    assert runtime.info.device.startswith("CPU, 1 thread")
    assert "CPU" in runtime.info.build
    assert [job.ending for job in jobs] == [Finished("length", 2)] * 4


def test_seed_makes_sampling_repeatable(tiny_path: Path) -> None:
    runtime = runtime_of(tiny_path)
    ids = prompt(runtime, "Draw")

    def draw(seed: int) -> list[int]:
        runtime.clear(0)
        runtime.decode([Row(id, i, 0, i == len(ids) - 1) for i, id in enumerate(ids)])
        sampler = runtime.new_sampler(SamplingSettings(temperature=1.0, seed=seed))
        drawn = [runtime.sample(len(ids) - 1, sampler) for _ in range(8)]
        sampler.close()
        return drawn

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    runtime.close()


def test_a_masked_token_is_not_drawn(tiny_path: Path) -> None:
    runtime = runtime_of(tiny_path)
    runtime.decode([Row(20, 0, 0, True)])
    greedy = runtime.new_sampler(SamplingSettings(temperature=0.0))
    best = runtime.sample(0, greedy)

    row = runtime.logits(0)
    row[best] = -np.inf

    assert runtime.sample(0, greedy) != best
    greedy.close()
    runtime.close()


def test_text_that_spells_a_control_token_stays_text(tiny_path: Path) -> None:
    runtime = runtime_of(tiny_path)
    vocabulary = runtime.vocabulary

    as_control = vocabulary.tokenize("<|im_end|>", parse_control=True)
    as_text = vocabulary.tokenize("<|im_end|>", parse_control=False)

    assert as_control == [vocabulary.control_tokens()["<|im_end|>"]]
    assert len(as_text) > 1
    assert b"".join(map(vocabulary.piece, as_text)) == b"<|im_end|>"
    runtime.close()


def test_the_demo_model_says_hello() -> None:
    initialise()
    runtime = LlamaRuntime.load(DEMO, "demo", LlamaOptions(n_threads=1))
    loop = EngineLoop()
    loop.add_model("model", runtime)
    loop.start()
    control = runtime.vocabulary.control_tokens()
    turn = [control["<|im_start|>"], *prompt(runtime, "user\nHello!"), control["<|im_end|>"], *prompt(runtime, "\n")]
    answer = [control["<|im_start|>"], *prompt(runtime, "assistant\n"), control["<think>"], *prompt(runtime, "\n\n")]

    job = submit(loop, "hello", [*turn, *answer, control["</think>"], *prompt(runtime, "\n\n")])
    wait(job)
    loop.check_integrity()
    loop.close()

    assert "Hello" in job.text
    assert isinstance(job.ending, Finished)
    assert job.ending.reason == "end"


@pytest.mark.parametrize("content", [b"", b"no model", b"GGUF" + bytes(100)])
def test_a_broken_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    initialise()
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)

    with pytest.raises(LoadFailed, match=r"broken\.gguf"):
        LlamaRuntime.load(path, "broken", LlamaOptions())


def test_a_load_can_be_stopped(tiny_path: Path) -> None:
    told: list[float] = []

    def stop(fraction: float) -> None:
        told.append(fraction)
        raise EngineStopped("enough")

    with pytest.raises(EngineStopped, match="enough"):
        LlamaRuntime.load(tiny_path, "tiny", EXACT, progress=stop)
    assert len(told) == 1


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="No such file"):
        LlamaRuntime.load(tmp_path / "missing.gguf", "missing", LlamaOptions())


def test_a_model_is_freed_when_its_tokenizer_has_done(tiny_path: Path) -> None:
    runtime = LlamaRuntime.load(tiny_path, "tiny", LlamaOptions(n_ctx=64, n_threads=1))
    text = "Anna has a cat. " * 20_000
    began = threading.Event()
    ended: list[str] = []

    def tokenise() -> None:
        began.set()
        try:
            while True:
                runtime.vocabulary.tokenize(text, parse_control=False)
        except EngineStopped as error:
            ended.append(str(error))

    threads = [threading.Thread(target=tokenise) for _ in range(3)]
    for thread in threads:
        thread.start()
    began.wait(10)
    runtime.close()
    for thread in threads:
        thread.join(30)

    assert ended == ["the model was unloaded"] * 3
