"""A program of the chaos test: starts or finds the worker and asks it, over and over, until the file `end` is there.

Each round leaves a letter in the file named on the command line: `.` answered, `e` told that it failed, and `!` with
its traceback for whatever is neither.
"""

from __future__ import annotations

import os
import random
import sys
import traceback
from pathlib import Path

from nbllama.errors import NbllamaError
from nbllama.worker import connection

BODY = {"model": "any", "max_tokens": 200, "messages": [{"role": "user", "content": "tell"}]}


def main(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    with (folder / f"client-{os.getpid()}").open("wb", buffering=0) as outcomes:
        while not (folder / "end").exists():
            try:
                outcomes.write(one_round(chance).encode())
            except NbllamaError:
                outcomes.write(b"e")
            except Exception:  # whatever it is, the test shows it
                outcomes.write(f"!{traceback.format_exc()}".encode())


def one_round(chance: random.Random) -> str:
    endpoint = connection.ensure(timeout=60)
    with connection.attach(endpoint):
        events = connection.stream_events(endpoint, BODY)
        if chance.random() < 0.2:
            # Leaves in the middle.
            next(events)
            events.close()  # type: ignore[attr-defined]  # a generator
            return "."
        return "." if list(events)[-1].name == "message_stop" else "e"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
