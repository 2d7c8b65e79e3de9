"""Does counting disturb a stream? 24 counts at once, as Claude Code's /context asks for them, while an answer streams.

    python benchmarks/count_tokens.py [--model demo] [--counts 24] [--words 500] [--rounds 3]

Prints how long all counts together took, and the largest gap between two events of the stream with and without them.
The machine should be quiet. The last line is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.servers import HEADERS, nbllama

PROMPT = "Write a Python function to check if a number is prime"


def main() -> None:
    arguments = _arguments()
    with nbllama(arguments.model) as port:
        _count(port, 10, 0)
        alone = [_gap_of(port, lambda: time.sleep(0.5)) for _ in range(arguments.rounds)]
        seconds: list[float] = []
        counting = [
            _gap_of(port, lambda: seconds.append(_counts(port, arguments.counts, arguments.words)))
            for _ in range(arguments.rounds)
        ]
    gaps = {"alone": statistics.median(alone), "counting": statistics.median(counting)}
    print(f"{arguments.counts} counts of {arguments.words} words: {max(seconds):.3f} s at most for all")
    print(f"largest gap: {gaps['alone'] * 1000:.0f} ms alone, {gaps['counting'] * 1000:.0f} ms beside the counts")
    print(json.dumps({"benchmark": "count_tokens", "model": arguments.model, "counts_s": seconds, "gaps_s": gaps}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--counts", type=int, default=24)
    parser.add_argument("--words", type=int, default=500, help="words of each prompt that is counted")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _gap_of(port: int, meanwhile: Callable[[], Any]) -> float:
    """The largest gap between two events of a stream, in seconds, from its first token until `meanwhile` is done."""
    times: list[float] = []
    begun, done = threading.Event(), threading.Event()
    reader = threading.Thread(target=lambda: _stream(port, times, begun, done))
    reader.start()
    begun.wait(60)
    meanwhile()
    done.set()
    reader.join()
    return max(after - before for before, after in itertools.pairwise(times))


def _stream(port: int, times: list[float], begun: threading.Event, done: threading.Event) -> None:
    """Reads answers, one after another while there are counts, noting when events came within each of them."""
    while not done.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        messages = [{"role": "user", "content": PROMPT}]
        body = {"model": "any", "max_tokens": 4000, "stream": True, "temperature": 1, "messages": messages}
        connection.request("POST", "/v1/messages", json.dumps(body), HEADERS)
        answer = connection.getresponse()
        for line in answer:
            if line.startswith(b"data:"):
                times.append(time.perf_counter())
                begun.set()
            if done.is_set():
                break
        connection.close()


def _counts(port: int, n: int, n_words: int) -> float:
    """Seconds until all of `n` counts are answered."""
    threads = [threading.Thread(target=_count, args=(port, n_words, number)) for number in range(n)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _count(port: int, n_words: int, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    text = f"number {number} " + "and one more word " * (n_words // 4)
    body = {"model": "any", "messages": [{"role": "user", "content": text}]}
    connection.request("POST", "/v1/messages/count_tokens", json.dumps(body), HEADERS)
    answer = json.load(connection.getresponse())
    if answer["input_tokens"] < n_words:
        raise RuntimeError(f"only {answer['input_tokens']} tokens were counted")


if __name__ == "__main__":
    main()
