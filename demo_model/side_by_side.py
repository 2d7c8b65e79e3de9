"""Two models' answers to the chat prompts, for a reader who does not know which is which.

    python -m demo_model.side_by_side smollm2 smollm2:base --out FOLDER

FOLDER/answers.md shows each prompt with answers A and B, in a random order each time; FOLDER/key.json says who was who.
What can be checked without a reader (facts that must occur, code that must run) is counted and printed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from benchmarks.servers import nbllama
from demo_model.cases import body
from demo_model.draws import EVALUATION
from demo_model.evaluate import ask
from demo_model.judging import tells, text

CODE = re.compile(r"```(?:python)?\n(.*?)```", re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    prompts = yaml.safe_load((EVALUATION / "chat.yaml").read_text(encoding="utf-8"))
    answers = {model: answered(model, prompts) for model in arguments.models}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out, prompts, answers, random.Random(arguments.seed))
    print(json.dumps({model: checked(prompts, said) for model, said in answers.items()}))


def answered(model: str, prompts: list[dict[str, Any]]) -> list[str]:
    with nbllama(model) as port:
        return [text(ask(port, body(prompt["user"]))) for prompt in prompts]


def write(folder: Path, prompts: list[dict[str, Any]], answers: dict[str, list[str]], r: random.Random) -> None:
    pages, key = [], []
    for number, prompt in enumerate(prompts):
        order = list(answers)
        r.shuffle(order)
        key.append(order)
        shown = "\n\n".join(
            f"**{letter}**\n\n{answers[model][number]}" for letter, model in zip("AB", order, strict=True)
        )
        pages.append(f"## {number + 1}. {prompt['user']}\n\n{shown}\n")
    (folder / "answers.md").write_text("\n".join(pages), encoding="utf-8")
    (folder / "key.json").write_text(json.dumps(key), encoding="utf-8")


def checked(prompts: list[dict[str, Any]], answers: list[str]) -> dict[str, list[int]]:
    """How many have their facts, and whose code runs: right and all of each."""
    pairs = list(zip(prompts, answers, strict=True))
    facts = [tells(prompt["facts"], said) for prompt, said in pairs if "facts" in prompt]
    code = [runs(prompt["check"], said) for prompt, said in pairs if "check" in prompt]
    return {"facts": [sum(facts), len(facts)], "code": [sum(code), len(code)]}


def runs(check: str, said: str) -> bool:
    """Whether the code of the answer passes the check, in a process of its own with ten seconds."""
    found = CODE.search(said)
    program = f"{found[1] if found else said}\n\n{check}"
    try:
        done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
