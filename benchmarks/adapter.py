"""What does an adapter cost, and would merging it into its base's weights be faster, and as good?

    python benchmarks/adapter.py [--rounds 9] [--decode 48] [--prefill 256] [--threads N]
    python benchmarks/adapter.py --threads 1 --processor-time      # where the machine is never quiet

`nbllama models get smollm2` comes first. The base, the base with the adapter, and the adapter merged into the weights
(in the base's own types, in Q5_1, in Q8_0, and as nbllama does it: Q8_0, with weights of one input joined) are loaded
side by side and measured in turn, in another order each round. `--processor-time` counts what the one thread computed,
not what it waited for others. `ratio` is the median over the rounds of a model's rate and the base's, `best_ratio` that
of their best rounds: what else runs on the machine hits all of them. `kl` is the mean Kullback-Leibler divergence (nats
a token) from the adapter's predictions on a conversation with tools, `same` the share of tokens where the likeliest is
the same. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

# As the worker does, before libgomp is loaded: how threads wait decides much on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import numpy.typing as npt

from benchmarks.merging import merge_apart
from nbllama.answer.loading import lora_file
from nbllama.answer.published_models import SMOLLM2, Adapter, find_published
from nbllama.engine import llama_runtime
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime
from nbllama.engine.merging import merge
from nbllama.engine.runtime import Row
from nbllama.engine.sampling import SamplingSettings

CONVERSATION = (
    '<|im_start|>system\n<tools>\n{"name": "get_weather", "description": "Current weather", "parameters": {"type": '
    '"object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}\n</tools><|im_end|>\n<|im_start|>user'
    "\nDo I need an umbrella in Oslo?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n<|im_start|>user\n'
    '<tool_response>\n{"sky": "rain", "temperature": 7}\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n\n'
    "</think>\n\nYes: it rains in Oslo, at 7 degrees.<|im_end|>\n"
)
Log = npt.NDArray[np.float64]
Clock = Callable[[], float]
APART = {"merged": None, "merged_q5_1": "Q5_1", "merged_q8": "Q8_0"}


def main() -> None:
    arguments = _arguments()
    base, adapter = find_published(SMOLLM2), SMOLLM2.adapter
    if base is None or adapter is None:
        raise SystemExit("run first: nbllama models get smollm2")
    llama_runtime.initialise()
    clock = time.thread_time if arguments.processor_time else time.perf_counter
    report: dict[str, object] = {"benchmark": "adapter", "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as folder, _models(base, adapter, Path(folder), report, arguments) as models:
        figures = {name: _distance(models["adapter"], runtime) for name, runtime in models.items()}
        for kind, measure, n_tokens in (
            ("decode", partial(_decode_rate, clock=clock), arguments.decode),
            ("prefill", partial(_prefill_rate, clock=clock), arguments.prefill),
        ):
            for name, found in _compare(models, measure, n_tokens, arguments.rounds).items():
                figures[name] |= {f"{kind}{suffix}": value for suffix, value in found.items()}
    for name, found in figures.items():
        print(f"{name:12} " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))
    print(json.dumps(report | figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--decode", type=int, default=48, help="tokens that are generated, one at a time")
    parser.add_argument("--prefill", type=int, default=256, help="tokens of a prompt, at most 512")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processor-time", action="store_true", help="of the one thread; needs --threads 1")
    arguments = parser.parse_args()
    if arguments.processor_time and arguments.threads != 1:
        parser.error("--processor-time needs --threads 1")
    return arguments


@contextmanager
def _models(
    base: Path, adapter: Adapter, folder: Path, report: dict[str, object], arguments: argparse.Namespace
) -> Iterator[dict[str, LlamaRuntime]]:
    """base, adapter, those of APART, joined_q8: loaded side by side."""

    def load(path: Path, with_adapter: bool = False) -> LlamaRuntime:
        lora = lora_file(adapter) if with_adapter else None
        options = LlamaOptions(n_ctx=1024, n_threads=arguments.threads, max_sequences=1, adapter=lora)
        return LlamaRuntime.load(path, path.stem, options)

    found = {"base": load(base), "adapter": load(base, with_adapter=True)}
    for name, quantisation in APART.items():
        found[name] = load(merge_apart(base, adapter, folder / f"{name}.gguf", quantisation=quantisation))
    began, joined = time.process_time(), folder / "joined_q8.gguf"
    merge(base, adapter.path, joined, base_sha256=adapter.base_sha256, chat_template=adapter.chat_template())
    report |= {"joined_q8_processor_s": round(time.process_time() - began, 1), "joined_q8_bytes": joined.stat().st_size}
    found["joined_q8"] = load(joined)
    try:
        yield found
    finally:
        for runtime in found.values():
            runtime.close()


def _compare(
    models: dict[str, LlamaRuntime], measure: Callable[[LlamaRuntime, int], float], n_tokens: int, n_rounds: int
) -> dict[str, dict[str, float]]:
    """By model: median tokens a second, median ratio to the base of the same round, ratio of the best rounds."""
    for runtime in models.values():
        measure(runtime, n_tokens)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for index in range(n_rounds):
        # Another order each time, forwards and backwards in turn.
        names = list(models)[:: -1 if index % 2 else 1]
        for name in names[index // 2 % len(names) :] + names[: index // 2 % len(names)]:
            rates[name].append(measure(models[name], n_tokens))
    return {
        name: {
            "": statistics.median(found),
            "_ratio": statistics.median(rate / base for rate, base in zip(found, rates["base"], strict=True)),
            "_best_ratio": max(found) / max(rates["base"]),
        }
        for name, found in rates.items()
    }


def _decode_rate(runtime: LlamaRuntime, n_tokens: int, *, clock: Clock) -> float:
    """Tokens a second, one after the other, behind a prompt of 32."""
    _prefill(runtime, 32)
    sampler = runtime.new_sampler(SamplingSettings(temperature=0.0))
    began = clock()
    for place in range(32, 32 + n_tokens):
        # The same tokens in each: what is computed must not depend on what a model says.
        runtime.decode([Row(1000 + place, place, 0, True)])
        runtime.sample(0, sampler)
    took = clock() - began
    sampler.close()
    return n_tokens / took


def _prefill_rate(runtime: LlamaRuntime, n_tokens: int, *, clock: Clock) -> float:
    began = clock()
    _prefill(runtime, n_tokens)
    return n_tokens / (clock() - began)


def _prefill(runtime: LlamaRuntime, n_tokens: int) -> None:
    runtime.clear(0)
    runtime.decode([Row(1000 + place, place, 0, place == n_tokens - 1) for place in range(n_tokens)])
    runtime.logits(n_tokens - 1)


def _log_probabilities(runtime: LlamaRuntime) -> Log:
    """Of every next token of the conversation: shape (tokens, vocabulary)."""
    ids = runtime.vocabulary.tokenize(CONVERSATION, parse_control=True)
    runtime.clear(0)
    runtime.decode([Row(id, place, 0, True) for place, id in enumerate(ids)])
    logits = np.stack([runtime.logits(place).astype(np.float64) for place in range(len(ids))])
    logits -= logits.max(axis=1, keepdims=True)
    found: Log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


def _distance(expected: LlamaRuntime, found: LlamaRuntime) -> dict[str, float]:
    ours, theirs = _log_probabilities(expected), _log_probabilities(found)
    kl = (np.exp(ours) * (ours - theirs)).sum(axis=1)
    return {"kl": float(kl.mean()), "same": float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())}


if __name__ == "__main__":
    main()
