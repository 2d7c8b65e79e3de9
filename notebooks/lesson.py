"""What the tutorials beside this file use: checks of exercises, and guesses that a cell compares with what happens.

A check looks at what a student made, never at the words of a model, so it says the same with every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

RIGHT = "✓"
SURPRISE = "○"
NOT_YET = "✗"


def check(made: Any, *rules: tuple[Callable[[Any], Any], str], well: str = "") -> None:
    """Prints whether `made` keeps every rule, else what to change, as its first broken rule says.

    A rule is a test, called with `made`, and the sentence for whoever breaks it. A test that raises is broken too."""
    if made is ...:
        print(f"{NOT_YET} Not started: write your own code instead of the … in the cell above, and run both cells.")
        return
    for test, hint in rules:
        if not _holds(test, made):
            print(f"{NOT_YET} Not yet: {hint}\n  Change the cell above, and run both cells again.")
            return
    print(f"{RIGHT} Right. {well}".rstrip())


def reveal(guess: Any, actual: Any, choices: Iterable[Any], why: str = "") -> None:
    """Prints how a guess compares with what happened; nothing is told to who has not guessed."""
    choices = list(choices)
    listed = ", ".join(repr(choice) for choice in choices)
    if guess is ...:
        print(f"{NOT_YET} Guess first: write one of {listed} instead of the … in the cell above, and run both cells.")
    elif guess not in choices:
        print(f"{NOT_YET} {guess!r} is none of the choices: write one of {listed}.")
    elif guess == actual:
        print(f"{RIGHT} You guessed {guess!r}, and so it is. {why}".rstrip())
    else:
        print(f"{SURPRISE} You guessed {guess!r}; it is {actual!r}. {why}".rstrip())


def _holds(test: Callable[[Any], Any], made: Any) -> bool:
    try:
        return bool(test(made))
    except Exception:
        # Whatever an unfinished exercise made, the hint says more than a traceback of the test.
        return False
