"""How long after a cancel is the slot free?

    python benchmarks/cancel.py [--model demo] [--rounds 20] [--threads N]

Cancels one request alone in its prefill, alone while it writes, and, beside another that writes, in its prefill and
while it writes, at random times within a step; straight on the engine, without a door. A time runs from the call of
`EngineLoop.cancel` to the delivery of the ending, when the slot is free. Prints a table of milliseconds (median, 90 %,
longest) and the median time of the whole steps of that kind, which a cancel would wait for if nothing were interrupted.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nbllama.engine.jobs import Failed, Finished, Job, Outcome, Tokens
from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime, initialise
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Row
from nbllama.engine.sampling import SamplingSettings

N_PROMPT = 4000
DEMO = Path(__file__).parents[1] / "nbllama" / "models" / "demo.gguf"


class Request:
    """One job, and when it was told what."""

    def __init__(self, loop: EngineLoop, id: str, prompt: list[int]) -> None:
        self.id, self._loop = id, loop
        self.writes, self.ended = threading.Event(), threading.Event()
        self.ended_at = 0.0
        sampling = SamplingSettings(temperature=0.0)
        loop.submit("model", Job(id, "local", tuple(prompt), 1_000_000, sampling, self._deliver))

    def _deliver(self, outcomes: list[Outcome]) -> None:
        if any(isinstance(outcome, Tokens) for outcome in outcomes):
            self.writes.set()
        if isinstance(outcomes[-1], Finished | Failed):
            self.ended_at = time.perf_counter()
            self.ended.set()

    def cancel(self) -> float:
        """Seconds until it has ended."""
        began = time.perf_counter()
        self._loop.cancel("model", self.id)
        self.ended.wait()
        return self.ended_at - began


class Bench:
    """An engine with one model, whose steps are timed."""

    def __init__(self, path: Path, n_threads: int | None) -> None:
        initialise()
        self.runtime = LlamaRuntime.load(path, "model", LlamaOptions(n_threads=n_threads, n_ctx=8192))
        # What random tokens are answered with may end at once.
        self.runtime.vocabulary.is_end_of_generation = lambda token: False  # type: ignore[method-assign]
        self.loop = EngineLoop()
        self.loop.add_model("model", self.runtime)
        self.steps: list[tuple[int, float]] = []
        self.computes = threading.Condition()
        self._decode, self.runtime.decode = self.runtime.decode, self._timed  # type: ignore[method-assign]
        self._n_requests = self._n_rows = 0
        self.loop.start()

    def request(self, n_prompt: int) -> Request:
        """A prompt that no earlier one is a prefix of."""
        self._n_requests += 1
        rng = random.Random(self._n_requests)
        prompt = [rng.randrange(300, self.runtime.info.n_vocab - 300) for _ in range(n_prompt)]
        return Request(self.loop, f"r{self._n_requests}", prompt)

    def wait_for_a_prefill(self, at_least: int) -> None:
        with self.computes:
            self.computes.wait()
            while self._n_rows < at_least:
                self.computes.wait()

    def _timed(self, rows: Sequence[Row]) -> None:
        with self.computes:
            self._n_rows = len(rows)
            self.computes.notify_all()
        began = time.perf_counter()
        self._decode(rows)
        self.steps.append((len(rows), time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, help="all cores, if left out")
    arguments = parser.parse_args()
    bench = Bench(arguments.model, arguments.threads)
    rng = random.Random(0)
    results: dict[str, dict[str, float]] = {}
    for name, cancel in (("prefill", cancel_prefill), ("decode", cancel_decode)):
        for beside in (False, True):
            where = f"{name}, {'beside another' if beside else 'alone'}"
            results[where] = measure(bench, cancel, rng, arguments.rounds, beside=beside)
            print(f"{where:26}", "  ".join(f"{key} {value:8.2f}" for key, value in results[where].items()), flush=True)
    bench.loop.check_integrity()
    bench.loop.close()
    figures = {"benchmark": "cancel", "model": arguments.model.name, "device": bench.runtime.info.device}
    print(json.dumps({**figures, "rounds": arguments.rounds, "milliseconds": results}))


def measure(
    bench: Bench, cancel: Callable[[Bench, random.Random], float], rng: random.Random, rounds: int, *, beside: bool
) -> dict[str, float]:
    """Milliseconds; `step` is the median of the prefill steps, or of the others, that were not interrupted."""
    times = []
    bench.steps.clear()
    for _ in range(rounds):
        other = bench.request(8) if beside else None
        if other is not None:
            other.writes.wait()
        times.append(1000 * cancel(bench, rng))
        if other is not None:
            other.cancel()
    times.sort()
    whole = [1000 * seconds for n_rows, seconds in bench.steps if (n_rows > 2) == (cancel is cancel_prefill)]
    at_90 = times[min(len(times) - 1, int(0.9 * len(times)))]
    return {
        "median": statistics.median(times),
        "p90": at_90,
        "max": times[-1],
        "step": statistics.median(whole or [0.0]),
    }


def cancel_prefill(bench: Bench, rng: random.Random) -> float:
    request = bench.request(N_PROMPT)
    bench.wait_for_a_prefill(at_least=3)
    time.sleep(rng.random() * 0.2)
    return request.cancel()


def cancel_decode(bench: Bench, rng: random.Random) -> float:
    request = bench.request(8)
    request.writes.wait()
    time.sleep(rng.random() * 0.05)
    return request.cancel()


if __name__ == "__main__":
    main()
