"""Is an answer through nbllama as fast as through llama-server, on the same file?

    python benchmarks/against_llama_server.py --llama-server BINARY --gguf FILE [--streams 1 8] [--pairs 5]

Both servers serve the file with the same number of threads and are asked in turn, pair after pair, so that a busy
moment hits both; the medians are compared. `decode` is tokens a second from the first token that a client saw to the
last one; `first token` is the time until the first character of the answer to a prompt of about 1,000 tokens that
neither has seen. Both print what their build of llama.cpp was made for, and different builds are not compared. The
machine should be quiet. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import HEADERS, llama_server, nbllama

WORDS = (
    "river",
    "stone",
    "apple",
    "window",
    "garden",
    "letter",
    "cloud",
    "engine",
    "silver",
    "paper",
    "mountain",
    "copper",
)
CONTEXT = 8192


@dataclass(frozen=True)
class Server:
    """One that answers on a port of this machine. `build` is its line of `system_info`."""

    name: str
    port: int
    build: str


@dataclass(frozen=True)
class Stream:
    """What a client saw of one answer: moments in seconds, tokens of the answer."""

    asked: float
    first: float
    last: float
    n_tokens: int


def main() -> None:
    arguments = _arguments()
    with _nbllama(arguments) as ours, _llama_server(arguments) as theirs:
        for server in (ours, theirs):
            print(f"{server.name:14} system_info: {server.build}")
        if _features(ours.build) != _features(theirs.build):
            sys.exit("these are builds for different processors: nothing is compared")
        rows = [_compare(f"decode, {n} stream{'s' * (n > 1)}", ours, theirs, arguments, n) for n in arguments.streams]
        rows.append(_compare("first token, cold", ours, theirs, arguments, None))
    print(f"\n{'':22}{'nbllama':>12}{'llama-server':>14}{'ratio':>8}")
    for row in rows:
        print(f"{row['what']:22}{row['nbllama']:12.3f}{row['llama_server']:14.3f}{row['ratio']:8.3f}  {row['unit']}")
    print(json.dumps({"benchmark": "against_llama_server", "gguf": Path(arguments.gguf).name, "rows": rows}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True, help="the model's file")
    parser.add_argument("--llama-server", required=True, help="the path of llama.cpp's server")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=128, help="max_tokens of each answer")
    parser.add_argument("--prompt-tokens", type=int, default=1000, help="length of the cold prompt, about")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def _compare(
    what: str, ours: Server, theirs: Server, arguments: argparse.Namespace, n_streams: int | None
) -> dict[str, object]:
    """The medians of interleaved pairs, and the median of the pairs' ratios. `n_streams` None: the first token."""

    def measure(server: Server) -> float:
        if n_streams is None:
            return _first_token(server, arguments.prompt_tokens)
        return _decode_rate(server, n_streams, arguments.tokens)

    measure(ours), measure(theirs)
    pairs = []
    for turn in range(arguments.pairs):
        # Who goes first changes: the second finds the processor warm.
        order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
        seen = {server.name: measure(server) for server in order}
        pairs.append((seen[ours.name], seen[theirs.name]))
    return {
        "what": what,
        "nbllama": statistics.median(pair[0] for pair in pairs),
        "llama_server": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
        "unit": "s" if n_streams is None else "tokens/s",
        "pairs": pairs,
    }


def _decode_rate(server: Server, n_streams: int, n_tokens: int) -> float:
    """Tokens a second of all streams together, from the first that one saw to the last."""
    streams: list[Stream] = []
    threads = [
        threading.Thread(target=lambda: streams.append(_stream(server, _text(8), n_tokens))) for _ in range(n_streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each stream's first token is the product of its prefill.
    n_decoded = sum(stream.n_tokens - 1 for stream in streams)
    return n_decoded / (max(stream.last for stream in streams) - min(stream.first for stream in streams))


def _first_token(server: Server, n_prompt: int) -> float:
    stream = _stream(server, _text(n_prompt), 1)
    return stream.first - stream.asked


def _text(n_tokens: int) -> str:
    """Words of about one token each that no cache has seen in this order."""
    return " ".join(random.choices(WORDS, k=n_tokens))


def _stream(server: Server, prompt: str, n_tokens: int) -> Stream:
    """One streamed answer at temperature 1."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    body = {
        "model": "any",
        "max_tokens": n_tokens,
        "stream": True,
        "temperature": 1,
        "top_k": 40,
        "messages": [{"role": "user", "content": prompt}],
    }
    asked = time.perf_counter()
    connection.request("POST", "/v1/messages", json.dumps(body), HEADERS)
    response = connection.getresponse()
    first = last = 0.0
    n_output = 0
    for line in response:
        if b'"content_block_delta"' in line and line.startswith(b"data:"):
            last = time.perf_counter()
            first = first or last
        elif b'"message_delta"' in line and line.startswith(b"data:"):
            n_output = json.loads(line.removeprefix(b"data:"))["usage"]["output_tokens"]
            # An answer of one token may hold no whole character: it is told with the end.
            last = time.perf_counter()
            first = first or last
    if response.status != 200 or not n_output:
        sys.exit(f"{server.name} answered {response.status} and {n_output} tokens")
    return Stream(asked, first, last, n_output)


@contextlib.contextmanager
def _nbllama(arguments: argparse.Namespace) -> Iterator[Server]:
    threads = {"NBLLAMA_THREADS": str(arguments.threads)}
    with nbllama(arguments.gguf, "--ctx", str(CONTEXT), env=threads) as port:
        server = Server("nbllama", port, "")
        _stream(server, "hello", 1)
        yield Server(server.name, port, _status(server)["models"][0]["build"])


def _status(server: Server) -> dict[str, list[dict[str, str]]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/nbllama/status", headers=HEADERS)
    status: dict[str, list[dict[str, str]]] = json.loads(connection.getresponse().read())
    return status


@contextlib.contextmanager
def _llama_server(arguments: argparse.Namespace) -> Iterator[Server]:
    # The level at which it says what it was built for; it writes a few lines a request more.
    options = ["-lv", "4", "-np", str(max(arguments.streams)), "-c", str(CONTEXT), "--kv-unified"]
    options += ["-t", str(arguments.threads), "-tb", str(arguments.threads)]
    with (
        tempfile.TemporaryFile("w+") as log,
        llama_server(arguments.llama_server, arguments.gguf, *options, log=log) as port,
    ):
        log.seek(0)
        build = next((line for line in log if "system_info" in line), "")
        yield Server("llama-server", port, build.split("system_info:", 1)[-1].strip())


def _features(build: str) -> set[str]:
    """The processor features of a build: `AVX2`, `F16C` …; both name the ones that are on."""
    return set(re.findall(r"(\w+) = 1", build))


if __name__ == "__main__":
    main()
