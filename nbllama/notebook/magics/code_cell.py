"""The Python code of an answer, for a new cell below. Pure; nothing here runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbllama.views.visible import visible

PROMPT = "Answer with Python code in one code block."
"""What `--code` adds below the prompt."""

FIRST_LINE = "# from %%llama --code: read it before you run it"
CUT_OFF = "# the answer was cut off here (-n raises max_tokens)"

_PYTHON = ("python", "python3", "py", "ipython", "ipython3")


def cell_of(text: str, *, cut_off: bool) -> str | None:
    """The cell for an answer's text; None if there is no Python code in it.

    Blocks that say they are Python count, or else those that say nothing; what would act on a screen or show code in
    another order than it runs is made visible."""
    blocks = list(_blocks(_tokens(text)))
    chosen = [code for language, code in blocks if language in _PYTHON] or [
        code for language, code in blocks if not language
    ]
    code = "\n\n".join(code.strip("\n") for code in chosen if code.strip())
    if not code:
        return None
    return "\n".join([FIRST_LINE, visible(code), *([CUT_OFF] if cut_off else [])])


def _tokens(text: str) -> list[dict[str, Any]]:
    import mistune  # at the first answer, not at %load_ext

    parsed: Any = mistune.create_markdown(renderer=None)(text)
    return list(parsed)


def _blocks(tokens: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(language, code) of each block of code, also those in lists and quotations."""
    for token in tokens:
        if token.get("type") == "block_code":
            info = str((token.get("attrs") or {}).get("info") or "")
            yield (info.split() or [""])[0].strip("{}.").lower(), str(token["raw"])
        yield from _blocks(token.get("children") or [])
