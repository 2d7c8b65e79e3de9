"""A local model in your notebook that speaks the Anthropic Messages API.

    %load_ext nbllama            then %%llama asks, %llama status tells
    nbllama.client()             the official anthropic client, connected; async_client() likewise
    nbllama.run_tools(…)         a prompt with Python functions that the model may call
    nbllama.last                 what happened in the last request; trace(id or file), traces()
    nbllama.tokens(text)         the same inspectors on any text: tokens, parse; events judges any stream

Importing this loads nothing heavy: each name brings what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nbllama._version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllama.notebook.on_text import events, parse, tokens
    from nbllama.notebook.sdk.client import async_client, client
    from nbllama.notebook.tools.loop import run_tools
    from nbllama.notebook.trace import Trace, trace
    from nbllama.notebook.trace_list import traces

    last: Trace | None

__all__ = ["__version__", "async_client", "client", "events", "last", "parse", "run_tools", "tokens", "trace", "traces"]

_MODULES = {
    "client": "nbllama.notebook.sdk.client",
    "async_client": "nbllama.notebook.sdk.client",
    "events": "nbllama.notebook.on_text",
    "parse": "nbllama.notebook.on_text",
    "tokens": "nbllama.notebook.on_text",
    "run_tools": "nbllama.notebook.tools.loop",
    "trace": "nbllama.notebook.trace",
    "traces": "nbllama.notebook.trace_list",
}


def __getattr__(name: str) -> Any:
    if name == "last":
        # Never stored here: it is looked up each time, so that it is the current one.
        from nbllama.notebook.trace import last_trace

        return last_trace()
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext nbllama`"""
    from nbllama.notebook.magics import llama

    llama.load_ipython_extension(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext nbllama`"""
    from nbllama.notebook.magics import llama

    llama.unload_ipython_extension(shell)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from nbllama.server.extension import NbllamaApp

    return [{"module": "nbllama", "app": NbllamaApp}]
