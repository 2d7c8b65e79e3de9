"""What does enforcing cost a step? Masks and sampling of each sequence, with real logits, at 1 and 8 streams.

    python benchmarks/masks.py --model FILE.gguf [--streams 1 8] [--steps 60] [--seed 1]

Each stream makes forced calls of 25 tools with the default sampling (top_k 40 first, temperature 1), one token a step,
so that it is in keys, names, strings and numbers in turn. Prints the median milliseconds for each sequence and step:
the mask and the draw together (and in the best tenth of the steps, which others' load disturbs least), and the decode
of the step that they stand beside; and how long the grammar takes to compile, and from the cache. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from nbllama.chat.enforcing.tools_guide import Wish, tools_guide
from nbllama.chat.format import Format
from nbllama.chat.grammar import Grammars
from nbllama.chat.guides import Guide
from nbllama.engine import llama_runtime
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime
from nbllama.engine.runtime import Row
from nbllama.engine.sampling import SamplingSettings

N_TOOLS = 25
PROMPT = "Write a Python function to check if a number is prime"


def main() -> None:
    arguments = _arguments()
    llama_runtime.initialise()
    runtime = LlamaRuntime.load(Path(arguments.model), "bench", LlamaOptions(max_sequences=max(arguments.streams)))
    began = time.perf_counter()
    grammars = Grammars(runtime.vocabulary, runtime.info.n_vocab)
    report: dict[str, Any] = {"benchmark": "masks", "n_vocab": runtime.info.n_vocab, "tokenizer_s": _since(began)}
    wish = Wish(_tools(), forced=True)
    for name in ("compile_ms", "cached_ms"):
        began = time.perf_counter()
        tools_guide(grammars, Format(), wish, "none", "")
        report[name] = 1000 * _since(began)
    print(f"{N_TOOLS} tools: {report['compile_ms']:.1f} ms to compile, {report['cached_ms']:.2f} ms from the cache")
    report["streams"] = {}
    for n_streams in arguments.streams:
        times = _measure(runtime, [_guide(grammars, wish) for _ in range(n_streams)], arguments.steps, arguments.seed)
        report["streams"][n_streams] = times
        print(f"{n_streams} streams: " + ", ".join(f"{name} {value:.3f} ms" for name, value in times.items()))
    runtime.close()
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _tools() -> dict[str, Any]:
    """As many as Claude Code brings, of about the same size."""
    properties = {
        "path": {"type": "string", "description": "d" * 300},
        "limit": {"type": "integer", "description": "d" * 300},
        "mode": {"enum": ["read", "write"], "description": "d" * 300},
        "items": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}},
    }
    schema = {"type": "object", "properties": properties, "required": ["path"]}
    return {f"tool_{index}": schema for index in range(N_TOOLS)}


def _guide(grammars: Grammars, wish: Wish) -> Guide:
    guide, _ = tools_guide(grammars, Format(), wish, "none", "")
    if guide is None:
        raise SystemExit("the format is not enforced")
    return guide


def _measure(runtime: LlamaRuntime, guides: list[Guide], steps: int, seed: int) -> dict[str, float]:
    """Medians of the milliseconds for each sequence and step."""
    vocabulary = runtime.vocabulary
    prompt = vocabulary.tokenize(PROMPT, parse_control=False)
    samplers = [runtime.new_sampler(SamplingSettings(1.0, 40, 1.0, 0.0, seed + index)) for index in range(len(guides))]
    nexts, position = [], len(prompt)
    for index in range(len(guides)):
        runtime.clear(index)
        runtime.decode([Row(id, place, index, place == len(prompt) - 1) for place, id in enumerate(prompt)])
        nexts.append(prompt[-1])
    draws, decodes = [], []
    for _ in range(steps):
        began = time.perf_counter()
        runtime.decode([Row(id, position, index, True) for index, id in enumerate(nexts)])
        decodes.append(_since(began))
        position += 1
        took = 0.0
        for index, guide in enumerate(guides):
            began = time.perf_counter()
            nexts[index] = runtime.sample(index, samplers[index], guide)
            took += _since(began)
            if not vocabulary.is_end_of_generation(nexts[index]):
                guide.accept([nexts[index]])
        draws.append(took / len(guides))
    named = {"mask_and_draw": draws, "decode_of_the_step": decodes}
    for index in range(len(guides)):
        runtime.clear(index)
    medians = {name: 1000 * statistics.median(values) for name, values in named.items()}
    return medians | {"best_tenth": 1000 * sorted(draws)[len(draws) // 10]}


def _since(began: float) -> float:
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
