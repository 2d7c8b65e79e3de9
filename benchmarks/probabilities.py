"""What does it cost to tell the probabilities of tokens, and the bytes, places and times that every trace tells?

    python benchmarks/probabilities.py --model FILE.gguf [--steps 40] [--alternatives 5 20] [--prompt-tokens 30000]

One stream decodes with real logits; after each decode, which has emptied the processor's caches, its row is read once
free and once behind a mask, as for a guided token. Then a long prompt's places and pieces, what counting work and
taking the time adds to a token, and the size of a token's likelihood in a record. Medians in milliseconds, and beside
them the decode of the step; of what no model computes, the processor time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from nbllama.answer.generated import GeneratedIds
from nbllama.answer.likelihoods import to_record
from nbllama.answer.token_places import pieces_of, prompt_offsets
from nbllama.answer.tokenise import prompt_ids
from nbllama.chat.prompt import Prompt, Segment
from nbllama.engine import llama_runtime
from nbllama.engine.jobs import NO_WORK, Tokens, Work
from nbllama.engine.likelihood import Reader, likelihood, n_possible
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime
from nbllama.engine.runtime import Row

TEXT = "Write a Python function to check if a number is prime, and say what it costs for 1234567.\n"


def main() -> None:
    arguments = _arguments()
    llama_runtime.initialise()
    runtime = LlamaRuntime.load(Path(arguments.model), "bench", LlamaOptions(n_ctx=1024, max_sequences=1))
    report: dict[str, Any] = {"benchmark": "probabilities", "n_vocab": runtime.info.n_vocab}
    for n in arguments.alternatives:
        report[f"top_{n}"] = _measure(runtime, n, arguments.steps)
    report["prompt"] = _prompt(runtime, arguments.prompt_tokens)
    report["per_token_us"] = _per_token()
    runtime.close()
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--alternatives", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--prompt-tokens", type=int, default=30_000)
    return parser.parse_args()


def _measure(runtime: LlamaRuntime, n: int, steps: int) -> dict[str, float]:
    reader = Reader()
    prompt = runtime.vocabulary.tokenize(TEXT, parse_control=False)
    runtime.clear(0)
    runtime.decode([Row(id, place, 0, place == len(prompt) - 1) for place, id in enumerate(prompt)])
    token = prompt[-1]
    times: dict[str, list[float]] = {"decode": [], "free": [], "masked": []}
    size = 0
    for place in range(len(prompt), len(prompt) + steps):
        began = time.perf_counter()
        runtime.decode([Row(token, place, 0, True)])
        decoded = time.perf_counter()
        row = runtime.logits(0)
        before = reader.read(row, n)
        free = time.perf_counter()
        row[::2] = -float("inf")
        masked = time.perf_counter()
        if n_possible(row) != before.n_possible:
            after = reader.read(row, n)
        done = time.perf_counter()
        token = after.top[0][0]
        size = len(json.dumps(to_record(likelihood(before, after, float(row[token])))))
        for name, value in (("decode", decoded - began), ("free", free - decoded), ("masked", done - masked)):
            times[name].append(1000 * value)
    times["masked"] = [free + masked for free, masked in zip(times["free"], times["masked"], strict=True)]
    found = {name: statistics.median(values) for name, values in times.items()}
    found |= {f"{name}_best_tenth": sorted(times[name])[steps // 10] for name in ("free", "masked")}
    print(f"{n} alternatives: " + ", ".join(f"{name} {value:.3f} ms" for name, value in found.items()) + f", {size} B")
    return found | {"record_bytes": size}


def _prompt(runtime: LlamaRuntime, n_tokens: int) -> dict[str, float]:
    vocabulary = runtime.vocabulary
    per_text = len(vocabulary.tokenize(TEXT, parse_control=False))
    text = TEXT * (n_tokens // per_text)
    prompt = Prompt(text, (), (Segment(text, False),), "")
    encoded = prompt_ids(prompt, vocabulary, GeneratedIds(vocabulary.piece, ()), "bench")
    places, pieces = [], []
    for _ in range(10):
        began = time.thread_time()
        prompt_offsets(prompt, encoded, vocabulary.piece)
        placed = time.thread_time()
        pieces_of(encoded.ids, vocabulary.piece)
        places.append(1000 * (placed - began))
        pieces.append(1000 * (time.thread_time() - placed))
    found = {"tokens": len(encoded.ids), "places": statistics.median(places), "pieces": statistics.median(pieces)}
    print(", ".join(f"{name} {value:.2f}" for name, value in found.items()))
    return found


def _per_token() -> float:
    """Microseconds that the time and the counted work add to what is delivered of a token."""
    n = 100_000
    took = {}
    for name in ("without", "with"):
        began = time.thread_time()
        for _ in range(n):
            if name == "with":
                Tokens((1,), "a", (), Work(1, 2, 3))
            else:
                Tokens((1,), "a", (), NO_WORK, 0.0)
        took[name] = time.thread_time() - began
    added = 1e6 * (took["with"] - took["without"]) / n
    print(f"{added:.2f} µs a token for its time and its work")
    return added


if __name__ == "__main__":
    main()
