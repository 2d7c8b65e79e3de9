"""How many tokens a second reach the clients, through the door, the worker and the engine?

    python benchmarks/streaming.py [--model demo] [--streams 1 8] [--tokens 400] [--rounds 3] [--llama-server BINARY]

With `--llama-server` the same GGUF is served by llama.cpp's own server in the same run, and the ratio is printed. The
machine should be quiet. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import threading
import time
from pathlib import Path

from benchmarks.servers import HEADERS, llama_server, nbllama

PROMPT = "Write a Python function to check if a number is prime"


def main() -> None:
    arguments = _arguments()
    results = {"nbllama": _measure(arguments, nbllama(arguments.model))}
    if arguments.llama_server:
        results["llama-server"] = _measure(arguments, _theirs(arguments))
    for name, figures in results.items():
        for n_streams, rate in figures.items():
            print(f"{name:14} {n_streams:3} streams {rate:8.0f} tokens/s")
    if "llama-server" in results:
        ratios = {n: results["nbllama"][n] / results["llama-server"][n] for n in results["nbllama"]}
        results["ratio"] = ratios
    print(json.dumps({"benchmark": "streaming", "model": arguments.model, "tokens_per_second": results}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=400, help="max_tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")
    parser.add_argument("--llama-server", help="the path of a llama-server binary to compare with")
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, server: contextlib.AbstractContextManager[int]) -> dict[int, float]:
    """Tokens a second of all streams together, by number of streams."""
    with server as port:
        _rate(port, 1, arguments.tokens)
        return {
            n: statistics.median(_rate(port, n, arguments.tokens) for _ in range(arguments.rounds))
            for n in arguments.streams
        }


def _rate(port: int, n_streams: int, n_tokens: int) -> float:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(_stream(port, n_tokens))) for _ in range(n_streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def _stream(port: int, n_tokens: int) -> int:
    """One streamed answer at temperature 1; gives its output tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": "any", "max_tokens": n_tokens, "stream": True, "temperature": 1, "messages": messages}
    connection.request("POST", "/v1/messages", json.dumps(body), HEADERS)
    lines = connection.getresponse().read().decode().splitlines()
    delta = next(line for line in reversed(lines) if line.startswith("data:") and '"message_delta"' in line)
    count: int = json.loads(delta.removeprefix("data:"))["usage"]["output_tokens"]
    return count


def _theirs(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[int]:
    model = str(_file_of(arguments.model))
    return llama_server(arguments.llama_server, model, "-c", "8192", "-np", "16")


def _file_of(model: str) -> Path:
    from nbllama.answer.model_sources import resolve

    return resolve(model).path


if __name__ == "__main__":
    main()
