"""What a model can do: every case through the real door, with the tools in the request and the grammar on.

    python -m demo_model.evaluate MODEL [--sets NAME …] [--limit N] [--seed 1] [--json FILE] [--failures FILE]

MODEL is what `nbllama serve --model` takes. Decoding is greedy. The hand-written sets are in `evaluation/`; the
generated ones use tools and values that training never meets. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.servers import HEADERS, nbllama
from demo_model.cases import SETS, Case, every_case
from demo_model.judging import Message

AT_ONCE = 4


def main() -> None:
    arguments = _arguments()
    cases = [case for case in every_case(arguments.seed, arguments.limit) if case.set in (arguments.sets or SETS)]
    with nbllama(arguments.model) as port, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda case: ask(port, case.body), cases))
    report = judged(cases, answers, arguments.failures)
    for name, (right, n) in report.items():
        print(f"{name:24} {right:3} of {n:3}  {100 * right / n:5.1f} %")
    summary = {"model": arguments.model, "sets": {name: [right, n] for name, (right, n) in report.items()}}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(summary, indent=1))
    print(json.dumps(summary))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what nbllama serve --model takes")
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--limit", type=int, help="at most so many cases of a set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--failures", metavar="FILE", help="what went wrong in generated sets, a JSON line each")
    return parser.parse_args()


def ask(port: int, body: dict[str, Any]) -> Message:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/messages", json.dumps(body).encode(), HEADERS)
    message: Message = json.loads(connection.getresponse().read())
    connection.close()
    return message


def judged(cases: list[Case], answers: list[Message], failures: str | None) -> dict[str, tuple[int, int]]:
    """How many of each set are right. What fails of the hand-written sets is not shown: nobody should look at them."""
    report: dict[str, tuple[int, int]] = {}
    wrong = []
    for case, answer in zip(cases, answers, strict=True):
        good = answer.get("type") == "message" and case.right(answer)
        right, n = report.get(case.set, (0, 0))
        report[case.set] = (right + good, n + 1)
        if not good and case.set.startswith("generated"):
            wrong.append(
                {
                    "set": case.set,
                    "messages": case.body["messages"],
                    "wanted": case.wanted,
                    "got": answer.get("content", answer),
                }
            )
    if failures:
        Path(failures).write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in wrong))
    return {name: report[name] for name in SETS if name in report}


if __name__ == "__main__":
    main()
