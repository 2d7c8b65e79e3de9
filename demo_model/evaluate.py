"""What a model can do: every case through the real door, with the tools in the request and the grammar on.

    python -m demo_model.evaluate MODEL [--sets NAME …] [--limit N] [--seed 1] [--json FILE] [--failures FILE]

MODEL is what `nbllama serve --model` takes. Decoding is greedy. The hand-written sets are in `evaluation/`; the
generated ones use tools and values that training never meets. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from benchmarks.servers import HEADERS, nbllama
from demo_model.chats import Chats, extraction
from demo_model.dialogues import Composer, Mix, joined
from demo_model.draws import EVALUATION, Draws
from demo_model.tools import Offer, Request, families, offer, request

Message = dict[str, Any]
Judge = Callable[[Message], bool]
GENERATED = 60
AT_ONCE = 4


@dataclass(frozen=True)
class Case:
    """A request and what makes its answer right."""

    set: str
    body: dict[str, Any]
    right: Judge
    wanted: Any = field(default=None, compare=False)


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


# --- what is right


def calls(message: Message) -> list[dict[str, Any]]:
    return [block for block in message["content"] if block["type"] == "tool_use"]


def text(message: Message) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def thinking(message: Message) -> str:
    return "".join(block["thinking"] for block in message["content"] if block["type"] == "thinking")


def same(a: Any, b: Any) -> bool:
    """Numbers by value, strings but for case, outer space and a final full stop."""
    if isinstance(a, str) and isinstance(b, str):
        return a.strip().rstrip(".").casefold() == b.strip().rstrip(".").casefold()
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def exactly(*accepted: list[dict[str, Any]]) -> Judge:
    """The calls are those of one of the lists, in any order."""

    def judge(message: Message) -> bool:
        made = [(one["name"], one["input"]) for one in calls(message)]
        return any(_matches(made, wanted) for wanted in accepted)

    return judge


def _matches(made: list[tuple[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    left = list(made)
    for one in wanted:
        found = next((call for call in left if call[0] == one["name"] and same(call[1], one["input"])), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def has_facts(facts: list[list[str]], of: Callable[[Message], str] = text) -> Judge:
    def judge(message: Message) -> bool:
        said = of(message).replace("’", "'")
        return all(any(occurs(word, said) for word in words) for words in facts)

    return judge


def occurs(word: str, said: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", said, re.I) is not None


def valid(tools: list[dict[str, Any]], name: str | None) -> Judge:
    """Calls, of the tool that was named, whose arguments fit their schemas."""
    schemas = {tool["name"]: tool["input_schema"] for tool in tools}

    def judge(message: Message) -> bool:
        made = calls(message)
        try:
            for one in made:
                jsonschema.validate(one["input"], schemas[one["name"]])
            return bool(made) and all(name in (None, one["name"]) for one in made)
        except (jsonschema.ValidationError, KeyError):
            return False

    return judge


# --- the cases


def every_case(seed: int, limit: int | None) -> Iterator[Case]:
    n = min(limit or GENERATED, GENERATED)
    for make in (_everyday, _which_of_four, _none_fits, _two_calls, _results, _structured, _thinking):
        yield from islice(make(), limit)
    for made in (_generated_calls(seed, n), _generated_others(seed, n)):
        yield from made


def body(user: str, **other: Any) -> dict[str, Any]:
    return {
        "model": "evaluated",
        "max_tokens": 300,
        "temperature": 0,
        "messages": [{"role": "user", "content": user}],
        **other,
    }


def _read(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((EVALUATION / name).read_text(encoding="utf-8"))
    return entries


def _everyday() -> Iterator[Case]:
    for entry in _read("everyday.yaml"):
        accepted = [[call] for call in entry["accepted"]]
        yield Case("everyday", body(entry["user"], tools=entry["tools"]), exactly(*accepted))


def _which_of_four() -> Iterator[Case]:
    for entry in _read("which_of_four.yaml"):
        name = entry["name"]
        yield Case("which_of_four", body(entry["user"], tools=entry["tools"]), _chose(name))


def _chose(name: str) -> Judge:
    return lambda message: [one["name"] for one in calls(message)] == [name]


def _none_fits() -> Iterator[Case]:
    for entry in _read("none_fits.yaml"):
        yield Case("none_fits", body(entry["user"], tools=entry["tools"]), lambda message: not calls(message))


def _two_calls() -> Iterator[Case]:
    for entry in _read("two_calls.yaml"):
        yield Case("two_calls", body(entry["user"], tools=entry["tools"]), exactly(*entry["accepted"]))


def _results() -> Iterator[Case]:
    for entry in _read("results.yaml"):
        asked = after_result(entry["user"], entry["call"], entry["result"], bool(entry.get("is_error")), entry["tools"])
        yield Case("results", asked, has_facts(entry["facts"]))


def after_result(
    user: str, call: dict[str, Any], result: str, is_error: bool, tools: list[dict[str, Any]]
) -> dict[str, Any]:
    told = {"type": "tool_result", "tool_use_id": "toolu_1", "content": result, "is_error": is_error}
    messages = [
        {"role": "user", "content": user},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", **call}]},
        {"role": "user", "content": [told]},
    ]
    return body(user, tools=tools) | {"messages": messages}


def _structured() -> Iterator[Case]:
    for entry in _read("structured.yaml"):
        yield Case("structured", structured(entry["user"], entry["schema"]), is_object(*entry["accepted"]))


def structured(user: str, schema: dict[str, Any]) -> dict[str, Any]:
    return body(user, output_config={"format": {"type": "json_schema", "schema": schema}})


def is_object(*accepted: Any) -> Judge:
    def judge(message: Message) -> bool:
        try:
            return any(same(json.loads(text(message)), one) for one in accepted)
        except ValueError:
            return False

    return judge


def thinks(user: str, **other: Any) -> dict[str, Any]:
    return body(user, **other) | {"max_tokens": 1500, "thinking": {"type": "enabled", "budget_tokens": 1024}}


def _thinking() -> Iterator[Case]:
    for entry in _read("thinking.yaml"):
        tools = {"tools": entry["tools"]} if entry.get("tools") else {}
        yield Case("thinking_on", thinks(entry["user"], **tools), has_facts(entry["fits"], thinking))
        yield Case(
            "thinking_off",
            body(entry["user"], **tools),
            lambda message: not thinking(message) and "<think>" not in text(message),
        )


def _composer(seed: int) -> Composer:
    return Composer(Draws(random.Random(seed), held_out=True), Chats("smollm2"), Mix())


def wire(offers: list[Offer]) -> list[dict[str, Any]]:
    return [{"name": one.name, "description": one.description, "input_schema": one.schema} for one in offers]


def as_call(one: Request) -> dict[str, Any]:
    return {"name": one.offer.name, "input": one.arguments}


def _asked(composer: Composer, n: int | None = None) -> tuple[list[Offer], Request]:
    """Offers with a tool that training never met, and a request for it."""
    while True:
        offers = composer.offers(n)
        able = [one for one in offers if one.family.held_out and one.usable()]
        made = request(composer.d.one(able), composer.d) if able else None
        if made and (n is None or len(offers) == n):
            return offers, made


def _generated_calls(seed: int, n: int) -> Iterator[Case]:
    composer = _composer(seed)
    for _ in range(n):
        offers, one = _asked(composer)
        yield Case(
            "generated_one_call",
            body(composer.dressed(one, first=True), tools=wire(offers)),
            exactly([as_call(one)]),
            as_call(one),
        )
    for _ in range(n):
        offers, one = _asked(composer)
        _, other = _asked(composer)
        if composer.d.often(0.5):
            other = request(one.offer, composer.d) or other
        both = [*offers, other.offer] if other.offer.name not in {each.name for each in offers} else offers
        pair = [as_call(one), as_call(other)]
        yield Case("generated_two_calls", body(joined(one, other, composer.d), tools=wire(both)), exactly(pair), pair)
    for _ in range(n):
        offers, one = _asked(composer, 4)
        yield Case("generated_of_four", body(one.text, tools=wire(offers)), _chose(one.offer.name), one.offer.name)
    for number in range(n):
        offers, one = _asked(composer)
        offers = offers if number % 2 else [one.offer]
        choice = {"type": "tool", "name": one.offer.name} if number % 2 else {"type": "any"}
        forced = body(one.text, tools=wire(offers), tool_choice=choice)
        yield Case("forced_valid", forced, valid(wire(offers), one.offer.name if number % 2 else None), as_call(one))
        yield Case("generated_forced", forced, exactly([as_call(one)]), as_call(one))


def _generated_others(seed: int, n: int) -> Iterator[Case]:
    composer = _composer(seed + 1)
    for _ in range(n):
        offers = composer.offers()
        families_here = {one.family.family for one in offers}
        other = composer.d.one(
            [
                one
                for one in families()
                if one.family not in families_here and one.domain not in {o.family.domain for o in offers}
            ]
        )
        one = request(offer(other, composer.d), composer.d)
        if one:
            yield Case("generated_none_fits", body(one.text, tools=wire(offers)), lambda message: not calls(message))
    for _ in range(n):
        ask, value, schema = extraction(composer.d)
        yield Case("generated_structured", structured(ask, schema), is_object(value), value)
    for _ in range(n):
        offers, one = _asked(composer)
        result, answer = composer.result(one)
        facts = [[said] for said in _new_values(result, answer)]
        asked = after_result(one.text, as_call(one), result, False, wire(offers))
        yield Case("generated_results", asked, has_facts(facts), answer)


def _new_values(result: str, answer: str) -> list[str]:
    """What the answer took from the result: numbers and codes, word by word."""
    words = {word.strip(".,;:!?()\"'") for word in answer.split()}
    return sorted(word for word in words if any(c.isdigit() for c in word) and word in result)


SETS = [
    "everyday",
    "which_of_four",
    "none_fits",
    "two_calls",
    "results",
    "structured",
    "thinking_on",
    "thinking_off",
    "generated_one_call",
    "generated_two_calls",
    "generated_of_four",
    "generated_none_fits",
    "forced_valid",
    "generated_forced",
    "generated_results",
    "generated_structured",
]

if __name__ == "__main__":
    sys.exit(main())
