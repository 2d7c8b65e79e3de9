"""What a cell shows of an error: a line or two at first, the whole traceback when asked for it with `%tb`.

IPython shows what an exception's `_render_traceback_` says, of any class: so the SDK's errors stay the SDK's, and
nothing of the user's IPython is replaced.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import TypeVar

from nbllama.views.visible import visible

E = TypeVar("E", bound=BaseException)

WHOLE = "(%tb: the whole traceback)"
_NOT_THE_USERS = {"IPython", "ipykernel", "nbllama", "anthropic", "asyncio", "contextlib"}
_MAX_LINE = 60
_SHOWN = "_nbllama_shown"


def shortened(error: E, say: Callable[[E], str]) -> E:
    """The same error, which from now on shows itself as `render` does with `say(error)`."""
    setattr(error, "_render_traceback_", lambda: render(error, say(error)))  # noqa: B010  # IPython's hook
    return error


def render(error: BaseException, text: str) -> list[str]:
    """The lines of `text` and the user's line that it came from; the whole traceback if these have been shown."""
    state = vars(error)
    # %tb renders the same exception again.
    if _SHOWN in state and (whole := _whole(error)) is not None:
        return whole
    state[_SHOWN] = True
    return [*visible(text).splitlines(), *_place(error.__traceback__)]


def _whole(error: BaseException) -> list[str] | None:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        return None
    lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
    return lines


def _place(traceback: TracebackType | None) -> list[str]:
    """The line of the user's own code that led to it; none for a magic, which is the cell's first line."""
    found: tuple[CodeType, int] | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _NOT_THE_USERS:
            found = frame.f_code, traceback.tb_lineno
        elif found is not None:
            break
        traceback = traceback.tb_next
    if found is None:
        return []
    code, number = found
    source = visible(linecache.getline(code.co_filename, number)).strip()
    if not source or source.startswith("get_ipython()."):
        return []
    function = "" if code.co_name.startswith("<") else f" of {code.co_name}"
    return [f"  in line {number}{function}: {source[:_MAX_LINE]}   {WHOLE}"]
